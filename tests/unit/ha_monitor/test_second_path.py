"""What a second path to a silent host changes in the detector's judgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.host import Health
from roost_ha_monitor.detector import EVIDENCE_LIFE_S, Evidence, Policy, State, step

POLICY = Policy()


def silent(watched: Any, end: float, evidence: Callable[[float], Evidence | None]) -> None:
    """Three beats, then nothing but the second path's answers until ``end``."""
    watched.beats(0.0, 2.0)
    t = 2.25
    while t <= end:
        watched.state, made = step(
            watched.state, None, t, POLICY, watched.observing_since, evidence=evidence(t)
        )
        watched.said += made
        t += 0.25


def test_a_host_that_answers_elsewhere_stays_suspected_and_the_reason_says_so(
    watched: Any,
) -> None:
    silent(watched, 60.0, lambda t: Evidence(t - 1.0, "port 22 answers"))
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.SUSPECTED]
    assert watched.said[-1].reason == "No beat for 4.5 s, but port 22 answers."
    since = watched.state.since
    assert since == pytest.approx(4.5), "suspected since it fell silent, not since it was vouched"


def test_a_host_that_answers_nowhere_is_down_within_five_seconds(watched: Any) -> None:
    # A round of questions takes 1.2 s and begins when the host is suspected.
    silent(watched, 20.0, lambda t: Evidence(4.5) if t >= 5.75 else Evidence())
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.DOWN]
    assert watched.said[-1].at - 2.0 <= 5.0
    assert watched.said[-1].reason == "No beat for 4.5 s, and nothing answers on the second path."


def test_until_the_second_path_was_asked_nobody_is_down(watched: Any) -> None:
    silent(watched, 60.0, lambda _: Evidence())
    assert watched.healths == [Health.UP, Health.SUSPECTED]


def test_what_was_asked_before_the_silence_or_long_ago_says_nothing(watched: Any) -> None:
    silent(watched, 60.0, lambda _: Evidence(1.0))
    assert watched.healths == [Health.UP, Health.SUSPECTED]
    silent(watched, 60.0, lambda t: Evidence(t - EVIDENCE_LIFE_S - 0.1))
    assert Health.DOWN not in watched.healths


def test_a_host_whose_lease_ended_is_down_whatever_answers(watched: Any) -> None:
    silent(watched, 10.0, lambda t: Evidence(t - 1.0, "port 22 answers"))
    state, made = step(
        watched.state, None, 60.0, POLICY, 0.0, evidence=Evidence(59.0, "alive"), lease_over=True
    )
    assert [change.health for change in made] == [Health.DOWN]
    assert "its own lease has ended" in made[0].reason
    assert state.health is Health.DOWN


def test_a_host_that_beats_again_is_up_and_may_be_vouched_for_anew(watched: Any) -> None:
    silent(watched, 10.0, lambda t: Evidence(t - 1.0, "port 22 answers"))
    watched.beat(11.0)
    assert watched.healths[-1] is Health.UP
    assert not watched.state.vouched


def test_silence_on_purpose_suspects_nobody(watched: Any) -> None:
    watched.beats(0.0, 2.0)
    watched.state = replace(watched.state, planned=True)
    watched.silence(2.25, 60.0)
    assert watched.healths == [Health.UP]


def test_a_host_that_is_off_stays_off_until_it_beats_and_is_watched_then(watched: Any) -> None:
    watched.state = State(health=Health.OFF, sequence=4, since=0.0)
    watched.silence(0.0, 2000.0, tick=10.0)
    assert watched.healths == []
    watched.beat(2001.0)
    assert watched.healths == [Health.RECOVERED]
    assert watched.state.sequence == 5
    watched.silence(2002.0, 2004.0)
    watched.beats(2004.0, 2020.0)
    assert watched.healths[1:] == [Health.SUSPECTED, Health.RECOVERED, Health.UP]


def test_a_host_that_was_woken_and_never_beats_is_down(watched: Any) -> None:
    watched.state = State(health=Health.OFF, sequence=4, since=0.0, waking=True)
    watched.silence(0.0, POLICY.boot_s + 1)
    assert watched.healths == [Health.DOWN]
    assert not watched.state.waking


@given(answers=st.lists(st.sampled_from(["", "port 22 answers", None]), min_size=4, max_size=40))
def test_nobody_is_down_while_something_answered_last(
    new_watched: Callable[[], Any], answers: list[str | None]
) -> None:
    watched = new_watched()
    watched.beats(0.0, 2.0)
    latest, t = Evidence(), 2.0
    for answer in answers:
        t += 1.2
        if answer is not None:
            latest = Evidence(t - 1.2, answer)
        watched.state, made = step(watched.state, None, t, POLICY, 0.0, evidence=latest)
        watched.said += made
        if any(change.health is Health.DOWN for change in made):
            assert not latest.answered
            assert latest.asked_at > 2.0 - 1e-9
