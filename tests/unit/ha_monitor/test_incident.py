"""What is done about a host that is down, and what became of its desktops."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.desktop import DesktopState, Power
from roost_common.contracts.incident import IncidentState, Resolution
from roost_ha_monitor.desktop_fate import GIVEN_UP_CODE, Fate, Seen, resolution, tell
from roost_ha_monitor.incident import RETRIES, Facts, Move, Standing, decide, hold, retry_at

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def facts(**fields: Any) -> Facts:
    given_facts: dict[str, Any] = {
        "now": NOW,
        "beats": False,
        "devices": 0,
        "lease_left_s": None,
    } | fields
    return Facts(**given_facts)


@pytest.mark.parametrize(
    ("standing", "known", "move", "state"),
    [
        (Standing(), facts(devices=1), Move.FENCE, IncidentState.FENCING),
        (Standing(), facts(devices=1, lease_left_s=3.0), Move.FENCE, IncidentState.FENCING),
        (Standing(), facts(lease_left_s=3.0), Move.WAIT, IncidentState.FENCING),
        (Standing(), facts(lease_left_s=0.0), Move.LEASE_IS_OVER, IncidentState.FENCING),
        (Standing(), facts(), Move.ASK, IncidentState.AWAITING_CONFIRMATION),
        (Standing(), facts(beats=True, devices=1), Move.FALSE_ALARM, IncidentState.RESOLVED),
        (Standing(), facts(beats=True, lease_left_s=0.0), Move.FALSE_ALARM, IncidentState.RESOLVED),
        (Standing(), facts(disarmed=True, devices=1), Move.WAIT, IncidentState.FENCING),
        (Standing(), facts(disarmed=True, lease_left_s=0.0), Move.WAIT, IncidentState.FENCING),
        (
            Standing(),
            facts(devices=1, held_back="Too many."),
            Move.ASK,
            IncidentState.AWAITING_CONFIRMATION,
        ),
        (
            Standing(),
            facts(devices=1, held_back="Too many.", lease_left_s=0.0),
            Move.LEASE_IS_OVER,
            IncidentState.FENCING,
        ),
        (Standing(forced=True), facts(beats=True, devices=1), Move.FENCE, IncidentState.FENCING),
        (
            Standing(forced=True, rounds=1, retry_at=NOW),
            facts(beats=True, devices=1),
            Move.FALSE_ALARM,
            IncidentState.RESOLVED,
        ),
        (Standing(forced=True), facts(disarmed=True, devices=1), Move.FENCE, IncidentState.FENCING),
        (
            Standing(rounds=1, retry_at=NOW + timedelta(seconds=1)),
            facts(devices=2),
            Move.ASK,
            IncidentState.AWAITING_CONFIRMATION,
        ),
        (
            Standing(rounds=1, retry_at=NOW),
            facts(devices=2),
            Move.FENCE,
            IncidentState.AWAITING_CONFIRMATION,
        ),
        (
            Standing(rounds=1, retry_at=NOW + timedelta(seconds=1)),
            facts(devices=2, lease_left_s=-1.0),
            Move.LEASE_IS_OVER,
            IncidentState.FENCING,
        ),
    ],
)
def test_the_next_move(standing: Standing, known: Facts, move: Move, state: IncidentState) -> None:
    decision = decide(standing, known)
    assert (decision.move, decision.state) == (move, state)
    assert decision.detail


def test_what_holds_it_back_is_said() -> None:
    assert decide(Standing(), facts(devices=1, held_back="Too many.")).detail == "Too many."


standings = st.builds(
    Standing,
    forced=st.booleans(),
    rounds=st.integers(0, 9),
    retry_at=st.none() | st.integers(-90, 90).map(lambda s: NOW + timedelta(seconds=s)),
)
known_facts = st.builds(
    Facts,
    now=st.just(NOW),
    beats=st.booleans(),
    devices=st.integers(0, 3),
    lease_left_s=st.none() | st.floats(-50, 50),
    disarmed=st.booleans(),
    held_back=st.sampled_from(["", "Too many."]),
    spared=st.booleans(),
)


@given(standing=standings, known=known_facts)
def test_no_move_goes_further_than_what_is_known(standing: Standing, known: Facts) -> None:
    move = decide(standing, known).move
    if move is Move.LEASE_IS_OVER:
        assert known.lease_left_s is not None
        assert known.lease_left_s <= 0
    if move is Move.FENCE:
        assert known.devices
        assert standing.forced or not (known.held_back or known.spared)
    if move in (Move.FENCE, Move.LEASE_IS_OVER):
        assert standing.forced or not (known.beats or known.disarmed)
    if move is Move.FALSE_ALARM:
        assert known.beats


def test_rounds_are_repeated_ever_more_slowly() -> None:
    pauses = [retry_at(n, NOW) - NOW for n in range(1, 9)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRIES[-1]


def seen(**fields: Any) -> Seen:
    known: dict[str, Any] = {
        "revision": 11,
        "state": DesktopState.STARTING,
        "power": Power.ON,
        "running_revision": 5,
    } | fields
    return Seen(**known)


@pytest.mark.parametrize(
    ("known", "fate"),
    [
        (None, Fate.WAITING),
        (seen(), Fate.WAITING),
        (seen(revision=10, state=DesktopState.RUNNING, running_revision=10), Fate.WAITING),
        (seen(state=DesktopState.RUNNING, running_revision=11), Fate.BACK),
        # It ran again and was stopped before anybody asked.
        (seen(revision=15, power=Power.OFF, running_revision=12), Fate.BACK),
        (seen(power=Power.OFF, state=DesktopState.STOPPED), Fate.GIVEN_UP),
        (seen(state=DesktopState.DELETED), Fate.GIVEN_UP),
        (seen(problem_code=GIVEN_UP_CODE, problem="No more."), Fate.GIVEN_UP),
        (seen(problem_code="placement.no-capacity", problem="No room."), Fate.WAITING),
    ],
)
def test_the_fate_of_a_desktop(known: Seen | None, fate: Fate) -> None:
    assert tell(10, restart=True, seen=known)[0] is fate


def test_a_desktop_that_is_not_restarted_is_not_followed() -> None:
    assert tell(10, restart=False, seen=None)[0] is Fate.LEFT


def test_an_incident_ends_when_nobody_is_waited_for() -> None:
    assert resolution([]) is Resolution.RECOVERED
    assert resolution([Fate.BACK, Fate.LEFT]) is Resolution.RECOVERED
    assert resolution([Fate.BACK, Fate.WAITING, Fate.GIVEN_UP]) is None
    assert resolution([Fate.BACK, Fate.GIVEN_UP]) is Resolution.PARTLY


@pytest.mark.parametrize(
    ("unfenced", "watched", "beating", "at_most", "said"),
    [
        pytest.param(1, 2, 1, 1.0, "", id="one of two"),
        pytest.param(2, 3, 1, 1.0, "", id="one is left"),
        pytest.param(1, 1, 0, 1.0, "No host is left", id="the only one"),
        pytest.param(1, 4, 0, 1.0, "No host is left", id="the others are silent, too"),
        pytest.param(1, 4, 3, 0.1, "", id="one is never too many"),
        pytest.param(2, 4, 2, 0.5, "", id="just so many"),
        pytest.param(2, 3, 1, 0.5, "2 of 3 hosts", id="more than that"),
    ],
)
def test_many_hosts_at_once_are_not_switched_off(
    unfenced: int, watched: int, beating: int, at_most: float, said: str
) -> None:
    answer = hold(unfenced, watched, beating, at_most)
    assert said in answer
    assert bool(answer) == bool(said)


def test_hosts_that_were_all_silent_are_given_time_to_come_back() -> None:
    known = facts(devices=1, spared=True)
    decision = decide(Standing(), known)
    assert (decision.move, decision.state) == (Move.ASK, IncidentState.AWAITING_CONFIRMATION)
    assert "time to come back" in decision.detail
    assert decide(Standing(forced=True), known).move is Move.FENCE, "a person knows better"
    leased = replace(known, lease_left_s=-1.0)
    assert decide(Standing(), leased).move is Move.LEASE_IS_OVER, "what is sure is sure"


def test_a_pause_that_is_longer_than_any_was_written_by_a_wrong_clock() -> None:
    known = facts(devices=1)
    ahead = Standing(rounds=1, retry_at=known.now + timedelta(days=1))
    assert decide(ahead, known).move is Move.FENCE
