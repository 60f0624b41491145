"""ha-monitor's mapped classes."""

from roost_ha_monitor.model.alert import Alert
from roost_ha_monitor.model.base import Base
from roost_ha_monitor.model.host import Host

__all__ = ["Alert", "Base", "Host"]
