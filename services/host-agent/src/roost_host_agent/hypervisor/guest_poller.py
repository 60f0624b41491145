"""When to ask which guest: slowly, a few at a time, and soon after a guest has come up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from roost_common.clock import Clock
from roost_common.contracts.desktop import GuestInfo
from roost_common.errors import RoostError
from roost_host_agent import metrics
from roost_host_agent.hypervisor.driver import Changed

POLL_S: Final = 30.0
FIRST_AFTER_S: Final = 5.0
"""A guest's agent is hardly up sooner; afterwards the wait doubles up to `POLL_S`."""
AT_ONCE: Final = 2
FORGET_AFTER: Final = 3
"""So many silences in a row and what the guest told is no longer shown."""
_TICK_S: Final = 0.5

Ask = Callable[[UUID], Awaitable[GuestInfo]]


@dataclass(slots=True)
class _Guest:
    boot_id: UUID
    next_at: float
    wait: float = FIRST_AFTER_S
    silences: int = 0
    info: GuestInfo | None = None


class GuestPoller:
    """What the guests on this node have told, kept fresh by ``run``."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._guests: dict[UUID, _Guest] = {}

    def seen(self, running: Mapping[UUID, UUID]) -> None:
        """These desktops run, in these runs; all others are forgotten."""
        for desktop_id in self._guests.keys() - running.keys():
            del self._guests[desktop_id]
        for desktop_id, boot_id in running.items():
            guest = self._guests.get(desktop_id)
            if guest is None or guest.boot_id != boot_id:
                due = self._clock.monotonic() + FIRST_AFTER_S
                self._guests[desktop_id] = _Guest(boot_id, due)

    def soon(self, desktop_id: UUID) -> None:
        """The guest's agent has just come up."""
        if (guest := self._guests.get(desktop_id)) is not None:
            guest.next_at = self._clock.monotonic()

    def info(self, desktop_id: UUID, boot_id: UUID) -> GuestInfo | None:
        """What this guest has told in this run."""
        guest = self._guests.get(desktop_id)
        return guest.info if guest is not None and guest.boot_id == boot_id else None

    async def run(self, changed: Changed) -> None:
        """Ask whoever is due; ends by cancellation."""
        while True:
            await self.round(changed)
            await asyncio.sleep(_TICK_S)

    async def round(self, changed: Changed) -> None:
        """Ask those who are due now, `AT_ONCE` together."""
        now = self._clock.monotonic()
        due = sorted(
            (guest.next_at, desktop_id)
            for desktop_id, guest in self._guests.items()
            if guest.next_at <= now
        )
        # The guests themselves: before one's turn comes, it may have ended and be forgotten.
        chosen = [(desktop_id, self._guests[desktop_id]) for _, desktop_id in due[:AT_ONCE]]
        await asyncio.gather(*(self._one(*each, changed) for each in chosen))

    async def _one(self, desktop_id: UUID, guest: _Guest, changed: Changed) -> None:
        try:
            info: GuestInfo | None = await self._ask(desktop_id)
            guest.silences, guest.wait = 0, POLL_S
        except RoostError:
            # Most guests have no agent at first, some never: counted, not logged.
            metrics.GUEST_AGENT_FAILURES.inc()
            guest.silences += 1
            info = guest.info if guest.silences < FORGET_AFTER else None
        guest.next_at = self._clock.monotonic() + guest.wait
        guest.wait = min(guest.wait * 2, POLL_S)
        if info != guest.info:
            guest.info = info
            changed(desktop_id)
