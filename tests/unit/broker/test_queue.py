"""Places in the queue and what is said about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_broker.queue import (
    LATEST_MS,
    SOONEST_MS,
    Outlook,
    Picture,
    outlook,
    reason,
    retry_after_ms,
)
from roost_common.contracts.base import Problem

NO_ROOM = Problem(code="placement.no-capacity", detail="No room.")


@pytest.mark.parametrize(
    ("place", "picture", "expected"),
    [
        (1, Picture(max=3, free=1), Outlook.FREE),
        (2, Picture(max=3, free=1, coming=1), Outlook.STARTING),
        (3, Picture(max=3, free=1, coming=1), Outlook.QUEUED),
        (4, Picture(max=3, free=1, coming=1), Outlook.EXHAUSTED),
        (1, Picture(max=2, assigned=2), Outlook.EXHAUSTED),
        (1, Picture(max=2, assigned=1, coming=1), Outlook.STARTING),
        (2, Picture(max=2, assigned=1, coming=1), Outlook.EXHAUSTED),
        (1, Picture(max=3), Outlook.QUEUED),
        (1, Picture(max=3, troubled=1, problem=NO_ROOM, blocked=NO_ROOM), Outlook.TROUBLED),
        (1, Picture(max=1, troubled=1, problem=NO_ROOM), Outlook.TROUBLED),
        (1, Picture(max=2, troubled=1, problem=NO_ROOM), Outlook.QUEUED),
        (1, Picture(max=2, coming=1, troubled=1, problem=NO_ROOM), Outlook.STARTING),
        (1, Picture(max=3, blocked=NO_ROOM), Outlook.TROUBLED),
    ],
)
def test_outlook(place: int, picture: Picture, expected: Outlook) -> None:
    assert outlook(place, picture) is expected


counts = st.integers(0, 20)
pictures = st.builds(
    Picture,
    max=counts,
    free=counts,
    coming=counts,
    assigned=counts,
    troubled=counts,
    problem=st.sampled_from([None, NO_ROOM]),
    blocked=st.sampled_from([None, NO_ROOM]),
)


@given(pictures, st.integers(1, 50))
def test_nobody_behind_is_better_off(picture: Picture, place: int) -> None:
    order = [Outlook.FREE, Outlook.STARTING, Outlook.QUEUED, Outlook.TROUBLED, Outlook.EXHAUSTED]
    assert order.index(outlook(place, picture)) <= order.index(outlook(place + 1, picture))


@given(pictures, st.integers(1, 50))
def test_trouble_is_named(picture: Picture, place: int) -> None:
    if outlook(place, picture) is Outlook.TROUBLED:
        assert reason(picture) is not None


@given(st.integers(1, 100_000))
def test_asking_again_is_bounded_and_grows(place: int) -> None:
    assert SOONEST_MS <= retry_after_ms(place) <= retry_after_ms(place + 1) <= LATEST_MS
