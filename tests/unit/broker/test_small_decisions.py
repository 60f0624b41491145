"""Protocols, passwords' bucket, a desktop's phase, a session's states."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_broker import protocol
from roost_broker.model import Host, Session
from roost_broker.model.session import NEXT
from roost_broker.phase import Phase, phase_of
from roost_broker.throttle import Limit
from roost_common.contracts.desktop import DesktopState
from roost_common.contracts.session import (
    EndReason,
    SessionConnected,
    SessionDisconnected,
    SessionState,
)
from roost_common.errors import Conflict

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_the_first_protocol_both_speak() -> None:
    assert protocol.choose(None)[0] == "spice"
    assert protocol.choose([])[0] == "spice"
    assert protocol.choose(["spice", "rdp"])[0] == "spice"
    name, why = protocol.choose(["rdp", "vnc", "spice"])
    assert name == "spice"
    assert "rdp, vnc" in why
    with pytest.raises(Conflict) as caught:
        protocol.choose(["rdp"])
    assert caught.value.code == "protocol.none-in-common"
    assert "rdp" in caught.value.detail


def test_the_bucket_of_wrong_passwords() -> None:
    limit = Limit(failures=5, window_s=60)
    assert limit.wait_s(4.0) == 0
    assert limit.wait_s(5.0) == 12
    assert limit.level(5.0, NOW, NOW + timedelta(seconds=12)) == 4.0
    assert limit.level(5.0, NOW, NOW + timedelta(hours=1)) == 0
    assert limit.level(5.0, NOW, NOW - timedelta(hours=1)) == 5.0  # clocks of copies differ


def phase(**more: Any) -> Phase:
    boot = uuid4()
    values: dict[str, Any] = {
        "leaving": False,
        "refused": False,
        "assigned": False,
        "state": DesktopState.RUNNING,
        "reachable": True,
        "boot_id": boot,
        "dirty_boot_id": None,
        "disk_generation": 2,
        "wanted_generation": 2,
        "problem": False,
    }
    if more.pop("same_boot", False):
        values["dirty_boot_id"] = boot
    return phase_of(**(values | more))


def test_phases() -> None:
    assert phase() is Phase.FREE
    assert phase(dirty_boot_id=uuid4()) is Phase.FREE
    assert phase(same_boot=True) is Phase.COMING
    assert phase(wanted_generation=3) is Phase.COMING
    assert phase(reachable=False) is Phase.COMING
    assert phase(boot_id=None) is Phase.COMING
    assert phase(state=None) is Phase.COMING
    assert phase(state=DesktopState.STOPPED) is Phase.COMING
    assert phase(state=DesktopState.UNKNOWN) is Phase.TROUBLED
    assert phase(state=DesktopState.STARTING, problem=True) is Phase.TROUBLED
    assert phase(problem=True) is Phase.FREE  # it runs all the same
    assert phase(assigned=True) is Phase.ASSIGNED
    assert phase(assigned=True, leaving=True) is Phase.LEAVING
    assert phase(refused=True, leaving=True) is Phase.REFUSED


def session(state: SessionState = SessionState.PENDING) -> Session:
    return Session(
        id=uuid4(),
        user_id=uuid4(),
        user_name="ann",
        pool_id=uuid4(),
        pool_name="win",
        desktop_id=uuid4(),
        desktop_name="win-1",
        boot_id=uuid4(),
        state=state,
        revision=1,
        client_name="",
        client_address="",
        created_at=NOW,
        ticket_at=NOW,
    )


def test_a_session_follows_what_is_seen() -> None:
    one = session()
    assert one.observed(None, NOW, NOW) is None
    assert one.state == SessionState.PENDING
    event = one.observed("192.0.2.1", NOW + timedelta(seconds=1), NOW)
    assert isinstance(event, SessionConnected)
    assert (event.client_address, event.revision) == ("192.0.2.1", 2)
    assert one.observed("192.0.2.1", NOW + timedelta(seconds=2), NOW) is None
    assert one.observed(None, NOW + timedelta(seconds=1), NOW) is None  # older
    event = one.observed(None, NOW + timedelta(seconds=3), NOW)
    assert isinstance(event, SessionDisconnected)
    one.end(EndReason.LOGGED_OFF, NOW)
    assert one.observed("192.0.2.1", NOW + timedelta(seconds=4), NOW) is None
    assert one.state == SessionState.ENDED
    with pytest.raises(Conflict):
        one.end(EndReason.LOGGED_OFF, NOW)


def test_times_of_two_runs_of_an_agent_do_not_compare() -> None:
    one, before, after = session(), uuid4(), uuid4()
    assert isinstance(one.observed("a", NOW, NOW, before), SessionConnected)
    back = NOW - timedelta(hours=1)
    assert one.observed(None, back, NOW, before) is None
    assert one.observed(None, back, NOW) is None  # it does not name its run
    assert isinstance(one.observed(None, back, NOW, after), SessionDisconnected)
    assert one.observed("a", back, NOW, after) is None


def test_of_a_nodes_agents_the_one_first_heard_last_counts() -> None:
    first, second = uuid4(), uuid4()
    host = Host(node="n1", agent_id=first, agent_since=NOW, retired_agents=[], sent_at=NOW)
    assert host.hear(first, NOW)
    assert host.sent_at == NOW
    assert host.hear(second, NOW)
    assert host.agent_id == second
    assert host.sent_at is None
    assert not host.hear(first, NOW + timedelta(seconds=50))
    assert host.agent_id == second
    # Still there after more than any report is on its way: it was the later one after all.
    assert host.hear(first, NOW + timedelta(seconds=70))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30), st.randoms())
def test_the_newest_observation_decides(seen: list[tuple[int, bool]], shuffled: Any) -> None:
    """In whatever order observations come, who was there last decides."""
    moments = dict(seen)  # one observation a moment
    order = list(moments.items())
    shuffled.shuffle(order)
    one = session()
    states = [one.state]
    for at, connected in order:
        one.observed("a" if connected else None, NOW + timedelta(seconds=at), NOW)
        states.append(one.state)
    if moments and moments[max(moments)]:
        assert one.state == SessionState.ACTIVE
    else:
        assert one.state != SessionState.ACTIVE
    for before, after in itertools.pairwise(states):
        assert before == after or SessionState(after) in NEXT[SessionState(before)]
