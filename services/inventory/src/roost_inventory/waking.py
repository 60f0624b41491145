"""Waking hosts before their room is needed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from roost_inventory.draft import Draft
from roost_inventory.placement import Candidate, Overcommit
from roost_inventory.relief import best, hot
from roost_inventory.reserve import lacking
from roost_inventory.scheduling import (
    ClusterPolicy,
    Load,
    Member,
    PowerOn,
    Standing,
    Waiting,
)

WAKE_REFUSED_FOR: Final = timedelta(minutes=5)
"""A host that could not be woken is tried again after this time, if its room is still needed."""


class Wakers:
    """Which hosts to wake, one order after the other."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._saving = draft.view.scheduling.policy is ClusterPolicy.POWER_SAVING
        self._asleep = [
            member
            for _, member in sorted(draft.members.items())
            if member.standing is Standing.ASLEEP
            and not draft.within(member.refused_at, WAKE_REFUSED_FOR)
        ]
        self.rooms = coming(draft.members.values())
        """Room that is there or on its way."""
        self.orders: list[PowerOn] = []

    def for_all(self, waiting: Sequence[Waiting]) -> tuple[Waiting, ...]:
        """Order what is needed; returns the desktops for which even that makes no room."""
        if not self._saving:
            for member in [one for one in self._asleep if one.put_to_sleep]:
                self._rouse(member, "The cluster does not save power any more.")
        unserved = self._for_waiting(waiting)
        if self._saving:
            while self._asleep and (lack := lacking(self._draft, self.rooms.values())) is not None:
                self._rouse(self._asleep[0], f"{lack} Room is woken before it is needed.")
            self._for_hot()
        return unserved

    def _for_waiting(self, waiting: Sequence[Waiting]) -> tuple[Waiting, ...]:
        overcommit, unserved = self._draft.view.overcommit, []
        for one in sorted(waiting, key=lambda one: (-one.demand.memory_mib, one.name)):
            if placed(self.rooms, one, overcommit):
                continue
            fit = next((m for m in self._asleep if m.room.has_room(one.demand, overcommit)), None)
            if fit is None:
                unserved.append(one)
                continue
            self._rouse(fit, f"Desktops wait for room, among them {one.name}.")
            placed(self.rooms, one, overcommit)
        return tuple(unserved)

    def _for_hot(self) -> None:
        draft = self._draft
        unsure = [name for name in draft.awake() if not draft.settled(name)]
        if self.orders or unsure or draft.waking:
            return  # what comes or settles may be enough
        for name in hot(draft):
            if draft.slots(name) < 1 or best(draft, name) is not None:
                continue
            helper = next((m for m in self._asleep if self._helps(name, m)), None)
            if helper is not None:
                self._rouse(helper, f"{name} is hot, and no host that is awake can take from it.")
                return

    def _helps(self, name: str, helper: Member) -> bool:
        up = replace(
            helper,
            standing=Standing.AWAKE,
            room=replace(helper.room, usable=True),
            load=Load(0, 0, 0),
        )
        others = [one for one in self._draft.members.values() if one.name != helper.name]
        return best(Draft(self._draft.view, self._draft.now, [*others, up]), name) is not None

    def _rouse(self, member: Member, reason: str) -> None:
        self._asleep.remove(member)
        self.rooms[member.name] = member.room
        self.orders.append(PowerOn(member.name, reason))


def coming(members: Collection[Member]) -> dict[str, Candidate]:
    """Room that is there or on its way, by host."""
    return {
        one.name: one.room
        for one in members
        if one.standing is Standing.WAKING or (one.standing is Standing.AWAKE and one.room.usable)
    }


def placed(rooms: dict[str, Candidate], one: Waiting, overcommit: Overcommit) -> bool:
    """Put it where there is room; False when there is none."""
    for name, room in sorted(rooms.items()):
        if room.has_room(one.demand, overcommit):
            rooms[name] = room.taking(one.demand)
            return True
    return False
