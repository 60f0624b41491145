"""Inventory's mapped classes."""

from roost_inventory.model.base import Base
from roost_inventory.model.cluster import Cluster, HostWatch
from roost_inventory.model.desktop import Desktop
from roost_inventory.model.host import Administrative, Host
from roost_inventory.model.limitation import Limitation
from roost_inventory.model.migration import Migration
from roost_inventory.model.projections import (
    DesktopSession,
    NodeHealth,
    Pool,
    Reading,
    Template,
)
from roost_inventory.model.revocation import Revocation

__all__ = [
    "Administrative",
    "Base",
    "Cluster",
    "Desktop",
    "DesktopSession",
    "Host",
    "HostWatch",
    "Limitation",
    "Migration",
    "NodeHealth",
    "Pool",
    "Reading",
    "Revocation",
    "Template",
]
