"""A cluster as it would be after some moves: what a plan in the making reckons with. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from roost_inventory.placement import Candidate
from roost_inventory.scheduling import Guest, Load, Member, Migrate, Standing, View

CALM: Final = 0.95
"""Pressure up to which a hot host's desktops may bring another one: it must not be hot next."""
MOVE_COST: Final = 0.03
"""Pressure by which a move must at least relieve the busier of the two hosts."""
COST_PER_GIB: Final = 0.005
"""And so much more for each GiB that is copied."""


class Draft:
    """The members of a view with the moves that were drafted.

    A host's *pressure* is its use in relation to the high mark, of processors or memory, whichever
    is nearer to it: 1 is hot. The share of a desktop is what it used when it was last read.
    """

    def __init__(
        self,
        view: View,
        now: datetime,
        members: Iterable[Member] | None = None,
        *,
        limited: bool = True,
    ) -> None:
        self.view = view
        self.now = now
        self._limited = limited
        self.members = {one.name: one for one in (members or view.members)}
        self.rooms: dict[str, Candidate] = {name: one.room for name, one in self.members.items()}
        self.guests: dict[str, dict[str, Guest]] = {name: {} for name in self.members}
        self.cpu: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._under_way: Counter[str] = Counter()
        self._migrations = 0
        for name, member in self.members.items():
            load = member.load or Load(0, 0, 0)
            self.cpu[name], self.memory[name] = load.cpu_percent, load.memory_percent
        for guest in sorted(view.guests, key=lambda one: one.name):
            if guest.host in self.guests:
                self.guests[guest.host][guest.name] = guest
            if guest.moving_to is not None:
                self._count(guest.host, guest.moving_to)

    # --- looking ------------------------------------------------------------------------------

    def awake(self) -> Iterator[str]:
        """Hosts that take desktops, by name."""
        return (
            name
            for name, one in sorted(self.members.items())
            if one.standing is Standing.AWAKE and one.room.usable
        )

    @property
    def waking(self) -> bool:
        """Whether room is on its way."""
        return any(one.standing is Standing.WAKING for one in self.members.values())

    def within(self, when: datetime | None, span: timedelta) -> bool:
        """Whether it happened less than this time ago."""
        return when is not None and self.now - when < span

    def lasted(self, since: datetime | None, span: timedelta) -> bool:
        """Whether it has been so for this time."""
        return since is not None and self.now - since >= span

    def settled(self, name: str) -> bool:
        """Whether what was measured of it still holds: nothing is on its way from it or to it."""
        return self.members[name].load is not None

    def measured(self, name: str) -> bool:
        """Whether it was measured for the whole duration."""
        load = self.members[name].load
        return load is not None and load.measured_s >= self.view.scheduling.duration_s

    def pressure(self, name: str) -> float:
        """How near it is to being hot."""
        rules = self.view.scheduling
        return max(
            self.cpu[name] / rules.cpu_high_percent, self.memory[name] / rules.memory_high_percent
        )

    def share(self, guest: Guest, name: str) -> tuple[float, float]:
        """What a desktop uses of this host, or would: percent of processors and of memory."""
        room = self.rooms[name]
        cpu = guest.cpu_percent * guest.vcpus / room.cpus
        return cpu, 100 * guest.copy_mib / room.memory_mib

    def pressure_with(self, name: str, guest: Guest, sign: int) -> float:
        """Its pressure with (1) or without (-1) this desktop."""
        rules = self.view.scheduling
        cpu, memory = self.share(guest, name)
        return max(
            max(0.0, self.cpu[name] + sign * cpu) / rules.cpu_high_percent,
            max(0.0, self.memory[name] + sign * memory) / rules.memory_high_percent,
        )

    def movable(self, guest: Guest) -> bool:
        """Whether it may be moved now."""
        rested = not self.within(guest.moved_at, timedelta(seconds=self.view.scheduling.rest_s))
        return guest.steady and guest.moving_to is None and rested

    def slots(self, name: str) -> int:
        """How many migrations from it or to it may begin now."""
        rules = self.view.scheduling
        if not self._limited:
            return 1
        return min(
            rules.migrations_per_host - self._under_way[name],
            rules.migrations_per_cluster - self._migrations,
        )

    def busy(self, name: str) -> bool:
        """Whether a migration from it or to it is under way."""
        return self._under_way[name] > 0

    def takes(self, name: str, guest: Guest, limit: float) -> bool:
        """Whether it can run it, has room, is settled, and stays within this pressure."""
        return (
            self.settled(name)
            and self.members[name].kind == self.members[guest.host].kind
            and self.slots(name) > 0
            and self.rooms[name].has_room(guest.demand, self.view.overcommit)
            and self.pressure_with(name, guest, 1) <= limit
        )

    # --- drafting -----------------------------------------------------------------------------

    def move(self, guest: Guest, target: str, reason: str, *, empties: bool = False) -> Migrate:
        """Draft a move."""
        source, demand = guest.host, guest.demand
        for name, sign in ((source, -1), (target, 1)):
            cpu, memory = self.share(guest, name)
            self.cpu[name] = max(0.0, self.cpu[name] + sign * cpu)
            self.memory[name] = max(0.0, self.memory[name] + sign * memory)
        # Its room on the source is given back only when it has arrived: nobody gets it before.
        self.rooms[target] = self.rooms[target].taking(demand)
        self.guests[source].pop(guest.name)
        self.guests[target][guest.name] = replace(
            guest, host=target, moving_to=target, moved_at=self.now
        )
        self._count(source, target)
        return Migrate(guest.id, guest.name, source, target, reason, empties)

    def _count(self, source: str, target: str) -> None:
        self._under_way.update((source, target))
        self._migrations += 1


def cost(guest: Guest) -> float:
    """What moving it costs, as pressure."""
    return MOVE_COST + COST_PER_GIB * guest.copy_mib / 1024
