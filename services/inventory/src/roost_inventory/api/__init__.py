"""Inventory's HTTP."""

from roost_inventory.api.clusters import router as clusters
from roost_inventory.api.desktops import router as desktops
from roost_inventory.api.hosts import router as hosts
from roost_inventory.api.migrations import router as migrations

ROUTERS = (hosts, desktops, migrations, clusters)

__all__ = ["ROUTERS"]
