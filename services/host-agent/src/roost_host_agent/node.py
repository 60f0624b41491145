"""Who this agent is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Node:
    """The node, and this start of its agent."""

    name: str
    address: str
    """Where clients reach its SPICE ports."""
    agent_id: UUID
    """New at every start."""
