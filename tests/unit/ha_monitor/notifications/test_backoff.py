"""When a notification is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from roost_ha_monitor.notifications.backoff import Backoff

EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
BACKOFF = Backoff()


def test_the_waits_double_up_to_an_hour() -> None:
    waits = [BACKOFF.wait(failures).total_seconds() for failures in range(1, 12)]
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


def test_after_a_day_it_is_given_up() -> None:
    at, tries = EPOCH, 0
    while (then := BACKOFF.next_try(tries + 1, EPOCH, at)) is not None:
        at, tries = then, tries + 1
    assert timedelta(hours=23) < at - EPOCH <= timedelta(hours=24)
    assert tries == 31


@given(st.integers(min_value=1, max_value=10**9), st.floats(min_value=0, max_value=86_400))
def test_a_next_try_is_never_in_the_past_nor_too_late(failures: int, passed_s: float) -> None:
    now = EPOCH + timedelta(seconds=passed_s)
    at = BACKOFF.next_try(failures, EPOCH, now)
    if at is not None:
        assert now + BACKOFF.first <= at <= now + BACKOFF.longest
        assert at - EPOCH <= BACKOFF.give_up_after
