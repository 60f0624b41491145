"""Inventory's HTTP."""

from roost_inventory.api.desktops import router as desktops
from roost_inventory.api.hosts import router as hosts

ROUTERS = (hosts, desktops)

__all__ = ["ROUTERS"]
