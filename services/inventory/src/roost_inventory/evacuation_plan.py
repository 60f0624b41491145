"""Which desktops leave a host that is to be maintained, and when. Pure.

They leave a few at a time, the largest first, as long as the other hosts have room for it. What
is starting is waited for, what is stopping ends by itself, and what cannot be moved keeps the host
waiting and is named.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Body, Problem
from roost_inventory.migration_target import INCOMPATIBLE
from roost_inventory.placement import NO_CAPACITY, NO_HOST
from roost_inventory.reconcile import after

TRY_AGAIN_S: Final = (5.0, 15.0, 60.0, 300.0)
"""After the n-th time in a row that it was not moved; the last step repeats."""
STUCK: Final = "host.desktops-stay"
REFUSALS: Final = 3
"""Times in a row that it was not moved, from which on a person is told."""
HOMELESS: Final = frozenset({NO_HOST, NO_CAPACITY, INCOMPATIBLE})
"""There is nowhere to move it: a person is told at once."""
NAMED: Final = 5


class Refusal(Body):
    """A desktop could not be given another host."""

    failures: int
    at: datetime
    problem: Problem


class Evacuation(Body):
    """What a host remembers of its evacuation."""

    since: datetime
    refusals: dict[UUID, Refusal] = Field(default_factory=dict)
    problem: Problem | None = None
    """What keeps it from being empty, beyond patience."""

    def refusing(self, desktop: UUID, problem: Problem, now: datetime) -> Evacuation:
        """The same with one more refusal."""
        before = self.refusals.get(desktop)
        one = Refusal(failures=before.failures + 1 if before else 1, at=now, problem=problem)
        return self.model_copy(update={"refusals": {**self.refusals, desktop: one}})

    def told(self, problem: Problem | None, residents: Collection[UUID]) -> Evacuation:
        """The same with what is to be told, without what was refused to desktops that have gone."""
        kept = {one: refusal for one, refusal in self.refusals.items() if one in residents}
        return self.model_copy(update={"refusals": kept, "problem": problem})


class Stay(Enum):
    """What a desktop of the host is doing there."""

    RUNS = auto()
    """It can be moved."""
    MOVES = auto()
    BETWEEN = auto()
    """It starts or stops: what comes of it is waited for."""


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A desktop on the host."""

    id: UUID
    name: str
    stay: Stay
    memory_mib: int = 0
    failures: int = 0
    """Times it was not moved since the evacuation began."""
    failed_at: datetime | None = None
    problem: Problem | None = None
    """Why the last one did not."""


def leaving(residents: Sequence[Resident], at_once: int, now: datetime) -> tuple[UUID, ...]:
    """The desktops to move now, ``at_once`` at most with those that are on their way."""
    free = at_once - sum(one.stay is Stay.MOVES for one in residents)
    rest = sorted(
        (one for one in residents if one.stay is Stay.RUNS),
        key=lambda one: (one.failures, -one.memory_mib, one.name),
    )
    ready = [one.id for one in rest if not _is_resting(one, now)]
    return tuple(ready[: max(0, free)])


def _is_resting(one: Resident, now: datetime) -> bool:
    if one.failed_at is None or not one.failures:
        return False
    return now < one.failed_at + after(TRY_AGAIN_S, one.failures)


def trouble(residents: Sequence[Resident]) -> Problem | None:
    """What keeps the host from being empty, beyond patience."""
    stuck = sorted((one for one in residents if _is_stuck(one)), key=lambda one: one.name)
    if not stuck:
        return None
    told = [f"{one.name} ({one.problem.detail if one.problem else ''})" for one in stuck]
    more = f", and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
    return Problem(
        code=STUCK, detail=f"These desktops cannot be moved: {', '.join(told[:NAMED])}{more}."
    )


def _is_stuck(one: Resident) -> bool:
    if one.stay is not Stay.RUNS or not one.failures or one.problem is None:
        return False
    return one.failures >= REFUSALS or one.problem.code in HOMELESS
