"""ha-monitor's schema, version by version."""

from pathlib import Path

from roost_common.db import Migrations
from roost_ha_monitor.model import Base
from roost_ha_monitor.notifications import model as _notifications  # noqa: F401 - its tables

MIGRATIONS = Migrations("ha_monitor", Path(__file__).parent, Base.metadata)
