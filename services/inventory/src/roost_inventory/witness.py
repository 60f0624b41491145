"""Who saw a desktop: a node, by one run of its agent. Pure."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Witness(NamedTuple):
    """A node and the run of its agent that speaks; None where that is not known."""

    node: str | None
    agent_id: UUID | None = None

    def same_run(self, other: Witness) -> bool:
        """Whether times that the two give compare.

        Each run of an agent has a clock of its own, for the node's can be set back between two of
        them. An agent that does not name its run has one clock for all.
        """
        unnamed = self.agent_id is None or other.agent_id is None
        return self.node == other.node and (unnamed or self.agent_id == other.agent_id)
