"""Which desktops leave a host, in which order, and what is told when they do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.base import Problem
from roost_inventory.evacuation_plan import (
    NAMED,
    Evacuation,
    Resident,
    Stay,
    leaving,
    trouble,
)

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
NO = Problem(code="desktop.migration-failed", detail="No.")
NO_ROOM = Problem(code="placement.no-capacity", detail="No room.")


def resident(number: int, stay: Stay = Stay.RUNS, memory_mib: int = 1024) -> Resident:
    return Resident(id=UUID(int=number), name=f"d{number}", stay=stay, memory_mib=memory_mib)


def failed(one: Resident, times: int, ago_s: float, problem: Problem = NO) -> Resident:
    return replace(one, failures=times, failed_at=NOW - timedelta(seconds=ago_s), problem=problem)


def numbers(residents: list[Resident], at_once: int = 2) -> list[int]:
    return [one.int for one in leaving(residents, at_once, NOW)]


def test_the_largest_leave_first_a_few_at_a_time() -> None:
    three = [resident(1), resident(2, memory_mib=4096), resident(3)]
    assert numbers(three) == [2, 1]
    three[1] = replace(three[1], stay=Stay.MOVES)
    assert numbers(three) == [1]
    assert numbers([*three, resident(4, Stay.MOVES)]) == []


def test_what_starts_or_stops_is_waited_for() -> None:
    assert numbers([resident(1, Stay.BETWEEN), resident(2)]) == [2]


@pytest.mark.parametrize(
    ("times", "ago_s", "again"), [(1, 4, False), (1, 5, True), (2, 14, False), (9, 299, False)]
)
def test_what_was_not_moved_rests_and_lets_others_go(
    times: int, ago_s: float, *, again: bool
) -> None:
    one = failed(resident(1, memory_mib=4096), times, ago_s)
    assert (1 in numbers([one, resident(2), resident(3)], 3)) is again
    assert numbers([one, resident(2), resident(3)]) == [2, 3]


def test_who_is_told_of() -> None:
    assert trouble([failed(resident(1), 2, 0), resident(2)]) is None
    stuck = trouble([failed(resident(1), 3, 0), resident(2)])
    assert stuck is not None
    assert (stuck.code, "d1 (No.)" in stuck.detail) == ("host.desktops-stay", True)
    at_once = trouble([failed(resident(1), 1, 0, NO_ROOM)])
    assert at_once is not None, "there is nowhere to move it"
    assert trouble([replace(failed(resident(1), 3, 0), stay=Stay.MOVES)]) is None
    many = trouble([failed(resident(n), 3, 0) for n in range(1, NAMED + 3)])
    assert many is not None
    assert many.detail.endswith("and 2 more.")


def test_what_has_gone_is_forgotten() -> None:
    first, second = UUID(int=1), UUID(int=2)
    memory = Evacuation(since=NOW).refusing(first, NO, NOW).refusing(second, NO, NOW)
    memory = memory.refusing(first, NO_ROOM, NOW)
    assert (memory.refusals[first].failures, memory.refusals[first].problem) == (2, NO_ROOM)
    told = memory.told(NO, {first})
    assert (set(told.refusals), told.problem) == ({first}, NO)


STAYS = st.lists(st.sampled_from(list(Stay)), max_size=12)


@given(STAYS, st.integers(1, 5))
def test_never_more_at_once_than_allowed(stays: list[Stay], at_once: int) -> None:
    residents = [resident(number, stay) for number, stay in enumerate(stays, 1)]
    begun = leaving(residents, at_once, NOW)
    moving = sum(one.stay is Stay.MOVES for one in residents)
    assert len(begun) <= max(0, at_once - moving)
    assert moving + len(begun) >= min(at_once, moving + sum(s is Stay.RUNS for s in stays))
