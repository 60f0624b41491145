"""Room that power saving keeps free on the hosts that are awake. Pure."""

from __future__ import annotations

from collections.abc import Collection

from roost_inventory.draft import Draft
from roost_inventory.placement import Candidate


def lacking(draft: Draft, rooms: Collection[Candidate], *, slack: float = 0) -> str | None:
    """What these hosts lack of the reserve."""
    rules, overcommit = draft.view.scheduling, draft.view.overcommit
    if not rooms:
        return "No host is awake."
    empty_ones = sum(room.used_vcpus == room.used_memory_mib == 0 for room in rooms)
    if empty_ones < rules.reserve_hosts:
        return (
            f"{empty_ones} hosts without a desktop are awake, and {rules.reserve_hosts} ought to."
        )
    vcpus = sum(room.vcpu_limit(overcommit) for room in rooms)
    memory = sum(room.memory_limit_mib(overcommit) for room in rooms)
    if vcpus <= 0 or memory <= 0:
        return "The hosts that are awake have no room at all."
    used = max(
        sum(room.used_vcpus for room in rooms) / vcpus,
        sum(room.used_memory_mib for room in rooms) / memory,
    )
    free, wanted = 100 * (1 - used), rules.reserve_percent + slack
    if free < wanted:
        return f"{free:.0f} % of the room is free, and {wanted:.0f} % ought to be."
    return None
