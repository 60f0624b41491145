"""Broker's tables: the mapped classes and their transitions, a module per noun."""

from roost_broker.model.base import Base
from roost_broker.model.desktop import PoolDesktop
from roost_broker.model.host import Host
from roost_broker.model.identity import Group, LoginFailure, Membership, User
from roost_broker.model.launch import Launch, LaunchState
from roost_broker.model.pool import Entitlement, Pool
from roost_broker.model.projection import PlacementLimits, Template, TemplateVersion
from roost_broker.model.session import Session

__all__ = [
    "Base",
    "Entitlement",
    "Group",
    "Host",
    "Launch",
    "LaunchState",
    "LoginFailure",
    "Membership",
    "PlacementLimits",
    "Pool",
    "PoolDesktop",
    "Session",
    "Template",
    "TemplateVersion",
    "User",
]
