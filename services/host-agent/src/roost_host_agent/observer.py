"""From views to observations: what this node says of a desktop, and when it says it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from roost_common.clock import Clock
from roost_common.contracts.base import Message, Problem
from roost_common.contracts.desktop import (
    DomainObservation,
    DomainObserved,
    DomainState,
    StopReason,
)
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.node import Node

REMEMBERED: Final = 10_000
"""Desktops whose removal is remembered; older ones are forgotten first."""


class Publisher(Protocol):
    """The part of the bus that speaks."""

    async def publish(self, message: Message, /, *, deadline_s: float = ...) -> None: ...


class Observer:
    """Knows what was said last, and what libvirt cannot know: refusals and removals.

    Both are lost with the process and nothing depends on them: inventory asks again.
    """

    def __init__(self, node: Node, publisher: Publisher, clock: Clock) -> None:
        self._node = node
        self._publisher = publisher
        self._clock = clock
        self._began = clock.now()
        self._began_monotonic = clock.monotonic()
        self._last_stamp = self._began
        self._said: dict[UUID, DomainObservation] = {}
        self._removed: dict[UUID, int] = {}
        self._refused: dict[UUID, tuple[int, Problem]] = {}
        self._leaving: dict[UUID, int] = {}

    def stamp(self) -> datetime:
        """Now, and later than every stamp before: an older look is told from a newer one by it.

        The wall clock is asked once, at the start: when it is set afterwards, in either direction,
        the time between two looks stays what it was. Take it before looking, so that what changes
        meanwhile has a later one.
        """
        elapsed = timedelta(seconds=self._clock.monotonic() - self._began_monotonic)
        tick = timedelta(microseconds=1)
        self._last_stamp = max(self._began + elapsed, self._last_stamp + tick)
        return self._last_stamp

    # --- what libvirt cannot know ---------------------------------------------------------------

    def removed(self, desktop_id: UUID) -> int:
        """The generation with which the desktop was taken off this node; 0 if it was not."""
        return self._removed.get(desktop_id, 0)

    def note_removed(self, desktop_id: UUID, generation: int) -> None:
        """It is not on this node because somebody wanted it so."""
        self._refused.pop(desktop_id, None)
        generation = max(generation, self._removed.pop(desktop_id, 0))
        self._removed[desktop_id] = generation
        while len(self._removed) > REMEMBERED:
            self._removed.pop(next(iter(self._removed)))

    def note_leaving(self, desktop_id: UUID, generation: int) -> None:
        """It is being moved away with this generation: when it is gone, somebody wanted it so."""
        self._leaving[desktop_id] = generation

    def note_stays(self, desktop_id: UUID) -> None:
        """It is not being moved any more."""
        self._leaving.pop(desktop_id, None)

    def note_refused(self, desktop_id: UUID, generation: int, problem: Problem) -> None:
        """This generation could not be brought about."""
        self._refused[desktop_id] = (generation, problem)

    def note_done(self, desktop_id: UUID) -> None:
        """It is as it should be."""
        self._refused.pop(desktop_id, None)

    # --- observations ---------------------------------------------------------------------------

    def absent(self, desktop_id: UUID, at: datetime) -> DomainObservation:
        """A desktop that is not defined here: removed, refused, or gone without our doing."""
        refused, problem = self._refused.get(desktop_id, (0, None))
        removed = max(self.removed(desktop_id), self._leaving.get(desktop_id, 0))
        said = self._said.get(desktop_id)
        known = 0 if said is None else said.generation
        reason: StopReason | None = None
        if problem is not None:
            reason = None  # it did not run
        elif removed > 0 and removed >= known:
            reason = StopReason.REQUESTED
        elif said is not None:
            gone = said.state is not DomainState.ABSENT
            reason = StopReason.LOST if gone else said.stop_reason
        return DomainObservation(
            desktop_id=desktop_id,
            generation=max(refused, removed, known),
            state=DomainState.ABSENT,
            observed_at=at,
            stop_reason=reason,
            problem=problem,
        )

    def present(self, view: DomainView, at: datetime, *, guest: bool = True) -> DomainObservation:
        """A desktop that is defined here."""
        mark = view.mark
        _, refusal = self._refused.get(mark.desktop_id, (0, None))
        return DomainObservation(
            desktop_id=mark.desktop_id,
            generation=mark.generation,
            state=view.state,
            observed_at=at,
            boot_id=mark.boot_id,
            stop_reason=view.stop_reason,
            spice=view.spice,
            clients=view.clients,
            problem=refusal or view.problem,
            guest=view.guest if guest else None,
            stats=view.stats,
            migrating=view.migrating,
        )

    def report(
        self, views: Iterable[DomainView], at: datetime, *, guests: bool
    ) -> tuple[DomainObservation, ...]:
        """Everything defined here, and what was refused.

        What the guests told is left out of most reports (None says nothing new): with lists of
        applications it is most of the bytes, and it changes rarely.
        """
        present = [self.present(view, at, guest=guests) for view in views]
        here = {observation.desktop_id for observation in present}
        refused = [self.absent(one, at) for one in self._refused if one not in here]
        return (*present, *refused)

    async def say(
        self, desktop_id: UUID, view: DomainView | None, at: datetime, *, always: bool = False
    ) -> None:
        """Publish what is seen if it is not what was said last, or ``always``.

        Raises `Unavailable` when the bus does not take it; then it counts as not said.
        """
        seen = self.absent(desktop_id, at) if view is None else self.present(view, at)
        last = self._said.get(desktop_id)
        if not always and last is not None and _essence(last) == _essence(seen):
            return
        await self._publisher.publish(
            DomainObserved(node=self._node.name, agent_id=self._node.agent_id, domain=seen)
        )
        self._said.pop(desktop_id, None)
        self._said[desktop_id] = seen  # at the end: those said longest ago are forgotten first
        while len(self._said) > REMEMBERED:
            self._said.pop(next(iter(self._said)))


def _essence(observation: DomainObservation) -> DomainObservation:
    """Without what differs in every look."""
    return observation.model_copy(update={"observed_at": None, "stats": None})
