"""ha-monitor's schema, version by version."""

from pathlib import Path

from roost_common.db import Migrations
from roost_ha_monitor.model import Base

MIGRATIONS = Migrations("ha_monitor", Path(__file__).parent, Base.metadata)
