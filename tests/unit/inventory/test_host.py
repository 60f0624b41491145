"""A host: decisions of people and words of ha-monitor stay apart."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from tests.unit.inventory.stage import FakeNode

from roost_common.contracts.host import Health, HostState
from roost_common.errors import Conflict
from roost_common.testing.clock import FakeClock
from roost_inventory.model import Administrative, Host
from roost_inventory.settings import Settings

CLOCK = FakeClock()


def host(**facts: object) -> Host:
    node = FakeNode("n1", CLOCK)
    made = Host.enrolled(node.report(), Health.UP, CLOCK.now())
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def test_a_node_waits_for_approval_whatever_its_health() -> None:
    made = host()
    for health in Health:
        made.note_health(health)
        assert made.state is HostState.PENDING_APPROVAL
        assert not made.usable
    with pytest.raises(Conflict):
        made.prepare_maintenance(CLOCK.now())
    with pytest.raises(Conflict):
        made.activate(CLOCK.now())


def test_health_never_touches_what_people_decided() -> None:
    made = host()
    assert made.approve(CLOCK.now())
    assert not made.approve(CLOCK.now())
    assert made.usable
    assert not made.enter_maintenance(CLOCK.now()), "it may have desktops"
    assert made.prepare_maintenance(CLOCK.now())
    assert not made.prepare_maintenance(CLOCK.now())
    assert (made.state, made.usable) == (HostState.PREPARING_MAINTENANCE, False)
    assert made.enter_maintenance(CLOCK.now())
    assert made.evacuation is None
    for health, state in [
        (Health.UP, HostState.MAINTENANCE),
        (Health.SUSPECTED, HostState.NON_RESPONSIVE),
        (Health.DOWN, HostState.DOWN),
        (Health.RECOVERED, HostState.NON_RESPONSIVE),
        (Health.UP, HostState.MAINTENANCE),
    ]:
        made.note_health(health)
        assert made.state is state
        assert made.administrative is Administrative.MAINTENANCE
    assert made.activate(CLOCK.now())
    assert not made.activate(CLOCK.now())
    assert made.usable


def test_decisions_are_told_in_their_order_whatever_the_clock_says() -> None:
    made, at = host(), CLOCK.now()
    made.approve(at)
    decided = [made.decided_at]
    for earlier in (timedelta(), timedelta(minutes=5)):
        made.prepare_maintenance(at - earlier)
        decided.append(made.decided_at)
        made.activate(at - earlier)
        decided.append(made.decided_at)
    assert None not in decided
    assert decided == sorted(set(decided))  # type: ignore[type-var]


def test_only_an_idle_host_out_of_service_is_removed() -> None:
    made = host()
    made.approve(CLOCK.now())
    with pytest.raises(Conflict, match=r"host\.in-service"):
        made.require_removable(0)
    made.prepare_maintenance(CLOCK.now())
    with pytest.raises(Conflict, match=r"host\.has-desktops"):
        made.require_removable(1)
    made.require_removable(0)


def test_an_agent_that_starts_anew_counts_from_then_and_its_predecessor_no_more() -> None:
    made = host()
    first, second, third = made.agent_id, uuid4(), uuid4()
    clock = FakeClock()
    clock.advance(100)
    assert made.hear(first, clock.now())
    assert made.agent_since == CLOCK.now()
    assert made.hear(second, clock.now())
    assert (made.agent_id, made.agent_since) == (second, clock.now())
    clock.advance(5)
    assert made.hear(third, clock.now())
    for late in (first, second):
        assert not made.hear(late, clock.now())
    assert (made.agent_id, made.agent_since) == (third, clock.now())


def test_a_run_that_still_reports_long_after_is_no_late_word() -> None:
    """Whatever came first of the two, the node is not left unheard for ever."""
    made = host()
    present, late = made.agent_id, uuid4()
    assert made.hear(late, CLOCK.now())
    assert not made.hear(present, CLOCK.now() + timedelta(seconds=50))
    assert made.hear(present, CLOCK.now() + timedelta(seconds=70))
    assert not made.hear(late, CLOCK.now() + timedelta(seconds=71))


def test_names_to_be_approved_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AMQP_URL": "amqp://x/",
        "LISTEN": "127.0.0.1:1",
        "DATABASE_URL": "postgresql+asyncpg://x/y",
        "AUTO_APPROVE": "node-*, rack7-?",
    }.items():
        monkeypatch.setenv(f"ROOST_INVENTORY_{name}", value)
    assert Settings().auto_approve == ("node-*", "rack7-?")
