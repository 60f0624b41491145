"""All of ha-monitor's queries."""

from roost_ha_monitor.repository.alerts import Alerts
from roost_ha_monitor.repository.hosts import Hosts, holder

__all__ = ["Alerts", "Hosts", "holder"]
