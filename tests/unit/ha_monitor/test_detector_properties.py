"""What holds for the detector whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.host import Health
from roost_ha_monitor.detector import Policy
from roost_ha_monitor.hearing import DEAF_AFTER_S, SELF_BEAT_S, Hearing

POLICY = Policy()
TICK = 0.25

lives = st.lists(st.tuples(st.integers(1, 30), st.floats(0.0, 20.0)), min_size=1, max_size=6)
"""Seconds of beats, then seconds of silence, and so on."""
jitter = st.floats(0.0, 0.4)


def play(watched: Any, life: list[tuple[int, float]], late: list[float]) -> list[float]:
    """Lets the host live its life; returns when its beats arrived."""
    arrivals: list[float] = []
    t, step_at = 0.0, 0.0
    for number, (beats, silence) in enumerate(life):
        delay = late[number % len(late)]
        for _ in range(beats):
            t += 1.0
            while step_at < t + delay:
                watched.step(step_at)
                step_at += TICK
            watched.beat(t + delay, sent=t)
            arrivals.append(t + delay)
        t += silence
    while step_at < t + 10:
        watched.step(step_at)
        step_at += TICK
    return arrivals


@given(life=lives, late=st.lists(jitter, min_size=1, max_size=6))
def test_nobody_is_down_without_silence(
    new_watched: Callable[[], Any], life: list[tuple[int, float]], late: list[float]
) -> None:
    watched = new_watched()
    arrivals = play(watched, life, late)
    for change in watched.said:
        if change.health is Health.DOWN:
            last = max(at for at in arrivals if at <= change.at)
            # Half a beat may be counted against a host whose beats change pace on their way.
            assert change.at - last >= POLICY.down_after_s - 0.5


@given(life=lives, late=st.lists(jitter, min_size=1, max_size=6))
def test_every_death_is_noticed_in_time(
    new_watched: Callable[[], Any], life: list[tuple[int, float]], late: list[float]
) -> None:
    watched = new_watched()
    arrivals = play(watched, life, late)
    # The host is silent after its last beat for at least ten seconds.
    noticed = [change.at for change in watched.said if change.health is Health.DOWN]
    assert noticed
    assert noticed[-1] - arrivals[-1] <= POLICY.down_after_s + TICK


@given(life=lives, late=st.lists(jitter, min_size=1, max_size=6))
def test_sequences_grow_by_one_and_only_allowed_changes_are_said(
    new_watched: Callable[[], Any], life: list[tuple[int, float]], late: list[float]
) -> None:
    watched = new_watched()
    play(watched, life, late)
    assert [change.sequence for change in watched.said] == list(range(1, len(watched.said) + 1))
    allowed = {
        (Health.UP, Health.SUSPECTED),
        (Health.RECOVERED, Health.SUSPECTED),
        (Health.SUSPECTED, Health.UP),
        (Health.SUSPECTED, Health.RECOVERED),
        (Health.SUSPECTED, Health.DOWN),
        (Health.DOWN, Health.RECOVERED),
        (Health.RECOVERED, Health.UP),
    }
    assert watched.healths[0] is Health.UP
    assert set(zip(watched.healths, watched.healths[1:], strict=False)) <= allowed


@given(
    outage=st.floats(0.0, 300.0),
    phase=st.floats(0.0, 0.999),
    backlog=st.integers(0, 10),
)
def test_an_outage_of_the_bus_downs_nobody(
    new_watched: Callable[[], Any], outage: float, phase: float, backlog: int
) -> None:
    """The host beats on, nobody hears it, and nobody hears the monitor's own beats either."""
    watched = new_watched()
    lost_from, lost_to = 20.0 + phase, 20.0 + phase + outage
    hearing = Hearing()
    events: list[tuple[float, str]] = []
    events += [(n * 1.0 + 0.01, "beat") for n in range(int(lost_to) + 20)]
    events += [(n * SELF_BEAT_S + 0.02, "self") for n in range(2 * int(lost_to) + 40)]
    events += [(n * TICK, "tick") for n in range(4 * int(lost_to) + 80)]
    waiting: list[float] = []
    released = False
    for t, kind in sorted(events):
        lost = lost_from <= t < lost_to
        if t >= lost_to and not released:
            # What the bus still holds comes in one burst, our own beats among it.
            released = True
            if outage > 0:
                hearing = hearing.heard(t)
            for sent in waiting[-backlog:] if backlog else []:
                watched.observing_since = hearing.observing_since(t)
                watched.beat(t, sent=sent)
        if kind == "self" and not lost:
            hearing = hearing.heard(t)
        elif kind == "beat" and lost:
            waiting.append(t)
        elif kind == "beat":
            watched.observing_since = hearing.observing_since(t)
            watched.beat(t)
        elif kind == "tick":
            watched.observing_since = hearing.observing_since(t)
            watched.step(t)
    assert Health.DOWN not in watched.healths
    assert watched.state.health is Health.UP


@given(gaps=st.lists(st.integers(1, 320).map(lambda n: n / 64), min_size=1, max_size=40))
def test_hearing_begins_anew_after_every_break(gaps: list[float]) -> None:
    hearing, now, since = Hearing(), 0.0, None
    for gap in gaps:
        now += gap
        if since is None or gap > DEAF_AFTER_S:
            since = now
        hearing = hearing.heard(now)
        assert hearing.observing_since(now) == since
        assert hearing.observing_since(now + DEAF_AFTER_S + 0.01) is None


def test_deafness_is_noticed_before_anybody_is_suspected() -> None:
    assert POLICY.suspect_after_s > DEAF_AFTER_S + SELF_BEAT_S
    assert Hearing().observing_since(0.0) is None
