"""All of ha-monitor's queries."""

from roost_ha_monitor.repository.alerts import Alerts
from roost_ha_monitor.repository.desktops import Desktops
from roost_ha_monitor.repository.fencing import Armings, FenceDevices, PowerOrders
from roost_ha_monitor.repository.hosts import Hosts, Leased, holder
from roost_ha_monitor.repository.incidents import Incidents

__all__ = [
    "Alerts",
    "Armings",
    "Desktops",
    "FenceDevices",
    "Hosts",
    "Incidents",
    "Leased",
    "PowerOrders",
    "holder",
]
