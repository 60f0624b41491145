"""Imports every module of messages, so that the registry is whole."""

from __future__ import annotations

from roost_common.contracts import (
    alert,
    desktop,
    disk,
    display,
    host,
    incident,
    migration,
    monitor,
    session,
    template,
)
from roost_common.contracts.base import REGISTRY, Message

__all__ = ["MODULES", "all_messages"]

MODULES = (
    alert,
    desktop,
    disk,
    display,
    host,
    incident,
    migration,
    monitor,
    session,
    template,
)


def all_messages() -> list[type[Message]]:
    """Every message class, by name."""
    return [REGISTRY[name] for name in sorted(REGISTRY)]
