"""ha-monitor's mapped classes."""

from roost_ha_monitor.model.alert import Alert
from roost_ha_monitor.model.base import Base
from roost_ha_monitor.model.desktop import Desktop
from roost_ha_monitor.model.fencing import Arming, FenceDevice, OrderState, PowerOrder
from roost_ha_monitor.model.host import Host
from roost_ha_monitor.model.incident import FencingAttempt, Incident, LostDesktop

__all__ = [
    "Alert",
    "Arming",
    "Base",
    "Desktop",
    "FenceDevice",
    "FencingAttempt",
    "Host",
    "Incident",
    "LostDesktop",
    "OrderState",
    "PowerOrder",
]
