"""Packing desktops on few hosts, and switching empty hosts off. Pure.

Nothing is emptied or switched off while room is in doubt or on its way. What is emptied must be
allowed to sleep afterwards, or the moves would be for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from roost_inventory.draft import Draft
from roost_inventory.placement import Candidate
from roost_inventory.reserve import lacking
from roost_inventory.scheduling import Guest, Migrate, PowerOff

PACKED: Final = 0.9
"""Pressure up to which a host is filled."""
SLACK_PERCENT: Final = 5.0
"""More than the reserve must stay free before a host sleeps, or it would be woken at once."""
REFUSED_FOR: Final = timedelta(minutes=30)
"""A host that could not be switched off is left alone for this time."""
EMPTYING_FOR: Final = timedelta(minutes=10)
"""A host whose emptying has begun is emptied further without being measured anew."""


# --- switching off ----------------------------------------------------------------------------


def sleep(draft: Draft) -> PowerOff | None:
    """The host to switch off now, one in each pass."""
    if _unsafe(draft) is not None:
        return None
    idle = timedelta(seconds=draft.view.scheduling.duration_s)
    fit = [
        name
        for name in draft.awake()
        if _may_sleep(draft, name)
        and _carries_nothing(draft, name)
        and draft.lasted(draft.members[name].empty_since, idle)
        and lacking(draft, _others(draft, name), slack=SLACK_PERCENT) is None
    ]
    if not fit:
        return None
    # The last by name: it is always the same hosts that stay awake.
    return PowerOff(fit[-1], f"{fit[-1]} carries nothing; the others have room and the reserve.")


def _carries_nothing(draft: Draft, name: str) -> bool:
    """No desktop is assigned to it or on its way to it, and its node names none."""
    room = draft.rooms[name]
    return (
        room.used_vcpus == room.used_memory_mib == 0
        and not draft.guests[name]
        and not draft.busy(name)
        and draft.members[name].domains == 0
    )


def _may_sleep(draft: Draft, name: str) -> bool:
    """Whether nothing about the host itself speaks against switching it off."""
    member = draft.members[name]
    return (
        draft.settled(name)
        and draft.lasted(member.awake_since, timedelta(seconds=draft.view.scheduling.awake_s))
        and not draft.within(member.refused_at, REFUSED_FOR)
    )


def _unsafe(draft: Draft) -> str | None:
    """Why no host may be taken away now."""
    for name, member in sorted(draft.members.items()):
        if member.trouble:
            return f"{name} is in trouble: its desktops may need the room of every other host."
    if draft.waking:
        return "A host is being woken: none is taken away meanwhile."
    return None


def _others(draft: Draft, name: str) -> list[Candidate]:
    return [draft.rooms[one] for one in draft.awake() if one != name]


# --- packing ----------------------------------------------------------------------------------


def empty(draft: Draft, notes: list[str]) -> Iterator[Migrate]:
    """Draft what can be begun now of emptying one host."""
    why_not = _unsafe(draft)
    if why_not is not None:
        notes.append(why_not)
        return
    in_use = [name for name in draft.awake() if draft.guests[name]]
    sources = [name for name in in_use if _is_low(draft, name)]
    if not sources and len(in_use) > 1:
        notes.append("No host is emptied: none is at rest, measured and at or below the low marks.")
    # One that was begun is ended first: two half-empty hosts save nothing.
    sources.sort(key=lambda one: (not _begun(draft, one), _to_copy(draft, one), one))
    for name in sources:
        homes = _homes(draft, name, notes)
        if homes is None:
            continue
        count = len(homes)
        for guest, target in homes:
            if draft.slots(name) < 1:
                break
            if draft.slots(target) > 0:
                reason = (
                    f"{name} is hardly used and can sleep when its {count} desktops are "
                    f"elsewhere. {guest.copy_mib} MiB are copied."
                )
                yield draft.move(guest, target, reason, empties=True)
        return


def _is_low(draft: Draft, name: str) -> bool:
    rules = draft.view.scheduling
    return (
        _may_sleep(draft, name)
        and (draft.measured(name) or _begun(draft, name))
        and draft.cpu[name] <= rules.cpu_low_percent
        and draft.memory[name] <= rules.memory_low_percent
    )


def _homes(draft: Draft, name: str, notes: list[str]) -> list[tuple[Guest, str]] | None:
    """Where each of its desktops would go, idle ones first; None where it cannot be emptied."""
    held = next((one for one in draft.guests[name].values() if not draft.movable(one)), None)
    if held is not None:
        notes.append(f"{name} is not emptied: {held.name} cannot be moved now.")
        return None
    # As if all could go at once: whether there is room does not depend on how many may at a time.
    trial = Draft(draft.view, draft.now, draft.members.values(), limited=False)
    homes: list[tuple[Guest, str]] = []
    for guest in sorted(
        trial.guests[name].values(), key=lambda one: (-one.memory_mib, -one.vcpus, one.name)
    ):
        others = [one for one in trial.awake() if one != name and trial.guests[one]]
        others.sort(key=lambda one: (-trial.pressure(one), one))
        target = next((one for one in others if trial.takes(one, guest, PACKED)), None)
        if target is None:
            notes.append(f"{name} is not emptied: no other host in use can take {guest.name}.")
            return None
        trial.move(guest, target, "")
        homes.append((guest, target))
    lack = lacking(trial, _others(trial, name), slack=SLACK_PERCENT)
    if lack is not None:
        notes.append(f"{name} is not emptied. Without it: {lack}")
        return None
    homes.sort(key=lambda one: (one[0].in_use, one[0].cpu_percent, one[0].copy_mib, one[0].name))
    return homes


def _begun(draft: Draft, name: str) -> bool:
    return draft.within(draft.members[name].emptied_at, EMPTYING_FOR)


def _to_copy(draft: Draft, name: str) -> int:
    return sum(one.copy_mib for one in draft.guests[name].values())
