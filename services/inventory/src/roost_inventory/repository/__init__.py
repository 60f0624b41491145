"""All of inventory's queries."""

from roost_inventory.repository.clusters import Clusters
from roost_inventory.repository.desktops import DesktopFilter, Desktops, SeenRow
from roost_inventory.repository.hosts import Hosts, Run
from roost_inventory.repository.limitations import Limitations
from roost_inventory.repository.migrations import Attempt, MigrationFilter, Migrations
from roost_inventory.repository.projections import Healths, Pools, Readings, Sessions, Templates

__all__ = [
    "Attempt",
    "Clusters",
    "DesktopFilter",
    "Desktops",
    "Healths",
    "Hosts",
    "Limitations",
    "MigrationFilter",
    "Migrations",
    "Pools",
    "Readings",
    "Run",
    "SeenRow",
    "Sessions",
    "Templates",
]
