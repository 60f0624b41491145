"""All of inventory's queries."""

from roost_inventory.repository.desktops import DesktopFilter, Desktops, SeenRow
from roost_inventory.repository.hosts import Hosts, Run
from roost_inventory.repository.limitations import Limitations
from roost_inventory.repository.projections import Healths, Pools, Readings, Sessions, Templates

__all__ = [
    "DesktopFilter",
    "Desktops",
    "Healths",
    "Hosts",
    "Limitations",
    "Pools",
    "Readings",
    "Run",
    "SeenRow",
    "Sessions",
    "Templates",
]
