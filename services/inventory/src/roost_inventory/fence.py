"""What the fence of a host means for each desktop that is assigned to it. Pure.

A fence ends one run of the node's agent and of everything beside it. What was told to a later run
is not touched by it, however late the news comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID

from roost_common.contracts.host import FencedBy, FenceScope

SKEW: Final = timedelta(minutes=1)
"""By how much the clocks of two managers differ at most."""


class Verdict(Enum):
    """What becomes of a desktop."""

    KEEP = auto()
    """The fence says nothing about it."""
    DOUBTFUL = auto()
    """It may run there still: the fence ended only those that are restarted."""
    RESTART = auto()
    """It is surely not there any more, and is to run elsewhere."""
    LEAVE_OFF = auto()
    """It is surely not there any more; who wants it starts it."""
    FREE = auto()
    """It was to stop anyway, and has."""

    @property
    def gone(self) -> bool:
        """Whether it is surely not there any more."""
        return self not in (Verdict.KEEP, Verdict.DOUBTFUL)


@dataclass(frozen=True)
class Fence:
    """A host's fence, and which run of its agent inventory hears now."""

    run: UUID | None
    """The run that is over; None when it is not known."""
    by: FencedBy
    scope: FenceScope
    at: datetime
    present: UUID | None
    """The run that reported last."""
    present_since: datetime | None

    def ends(self, run: UUID | None) -> bool:
        """Whether what was told to this run of the agent is over.

        Runs follow each other, so whatever is not the present one is over. The present one is,
        if it is the one that was fenced; or if it surely began before the host was switched off,
        which ends every run: ha-monitor may not have heard of it. A lease ends one run alone.
        """
        if run is None or self.run in (None, run) or run != self.present:
            return True
        if self.by is FencedBy.LEASE or self.present_since is None:
            return False
        return self.present_since < self.at - SKEW


@dataclass(frozen=True)
class Assigned:
    """A desktop that is assigned to the host."""

    run: UUID | None
    """The run of the agent to which its present command was given."""
    restart: bool
    """Its policy, as the node was told it."""
    wanted: bool
    """It should run, there, on the disk that it has."""


def verdict(fence: Fence, desktop: Assigned) -> Verdict:
    """What the fence means for one desktop."""
    if not fence.ends(desktop.run):
        return Verdict.KEEP
    if fence.scope is FenceScope.RESTARTED and not desktop.restart:
        return Verdict.DOUBTFUL
    return loss(desktop)


def loss(desktop: Assigned) -> Verdict:
    """What becomes of one that is surely not there any more."""
    if not desktop.wanted:
        return Verdict.FREE
    return Verdict.RESTART if desktop.restart else Verdict.LEAVE_OFF
