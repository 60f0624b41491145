"""Who is given time to come back when the site starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from roost_common.contracts.host import Health
from roost_ha_monitor.returning import NOBODY_WATCHED, Last, all_silent, expected, given_time

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - NOBODY_WATCHED - timedelta(seconds=1)
LATELY = NOW - NOBODY_WATCHED


def test_after_a_power_cut_all_hosts_are_expected_back() -> None:
    hosts = {
        "up": Last(Health.UP, LONG_AGO),
        "suspected": Last(Health.SUSPECTED, LONG_AGO - timedelta(days=1)),
        "recovered": Last(Health.RECOVERED, None),
        "down": Last(Health.DOWN, LONG_AGO),
        "off": Last(Health.OFF, LONG_AGO),
        "removed": Last(None, LONG_AGO),
    }
    assert expected(hosts, (), NOW) == ["up", "suspected", "recovered"]
    assert expected(hosts, {"up": 1}, NOW) == ["suspected", "recovered"], "that one is there"


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param({}, id="a new site"),
        pytest.param({"a": Last(Health.UP, None)}, id="nobody ever beat"),
        pytest.param(
            {"a": Last(Health.UP, LONG_AGO), "b": Last(Health.UP, LATELY)}, id="somebody watched"
        ),
    ],
)
def test_after_a_takeover_nobody_is(hosts: dict[str, Last]) -> None:
    assert expected(hosts, (), NOW) == []


def test_a_clock_that_went_back_makes_nobody_watched() -> None:
    ahead = NOW + timedelta(days=400)
    assert expected({"a": Last(Health.UP, ahead)}, (), NOW) == ["a"]


UP, DOWN, OFF, SUSPECTED = Health.UP, Health.DOWN, Health.OFF, Health.SUSPECTED


@pytest.mark.parametrize(
    ("healths", "all_of_them"),
    [
        ([DOWN, DOWN], True),
        ([DOWN, DOWN, OFF, None], True),
        ([DOWN, OFF], False),
        ([DOWN], False),
        ([DOWN, DOWN, SUSPECTED], True),
        ([SUSPECTED, SUSPECTED], True),
        ([DOWN, DOWN, Health.RECOVERED], False),
        ([DOWN, UP], False),
        ([], False),
    ],
)
def test_when_all_of_the_site_is_silent(healths: list[Health | None], *, all_of_them: bool) -> None:
    assert all_silent(healths) is all_of_them


@pytest.mark.parametrize(
    ("before", "now", "given"),
    [
        # Nobody beats: who is down waits until somebody does.
        ([DOWN, SUSPECTED], [DOWN, SUSPECTED], "a"),
        ([SUSPECTED, SUSPECTED], [DOWN, DOWN], "ab"),
        # The first is back: the others follow, also those that were not down yet.
        ([DOWN, SUSPECTED], [DOWN, UP], "a"),
        ([SUSPECTED, SUSPECTED], [SUSPECTED, UP], "a"),
        ([SUSPECTED, SUSPECTED, OFF], [SUSPECTED, UP, OFF], "a"),
        # From then on time runs.
        ([DOWN, UP], [DOWN, UP], ""),
        ([SUSPECTED, UP], [DOWN, UP], ""),
        ([UP, UP], [SUSPECTED, UP], ""),
    ],
)
def test_who_is_given_time(
    before: list[Health | None], now: list[Health | None], given: str
) -> None:
    names = "abc"
    assert given_time(
        dict(zip(names, before, strict=False)), dict(zip(names, now, strict=False))
    ) == set(given)
