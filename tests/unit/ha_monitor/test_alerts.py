"""Which alerts a host's state calls for."""

from __future__ import annotations

from typing import Any

import pytest

from roost_common.contracts.alert import Severity
from roost_common.contracts.host import Health
from roost_ha_monitor.alerts import AGENT_SILENT, HOST_DOWN, LIBVIRT_DOWN, UNFENCED, plan
from roost_ha_monitor.detector import State, hear


@pytest.fixture
def state(beat_at: Any) -> Any:
    """Makes a state: health and what the last beat said of libvirt."""

    def make(health: Health | None, *, libvirt: bool | None = True) -> State:
        pulse = None if libvirt is None else hear(None, beat_at(0, 1, libvirt=libvirt), 0.0)
        return State(health=health, sequence=1, since=0.0, pulse=pulse)

    return make


def test_a_host_that_is_down_is_an_alert_raised_once(state: Any) -> None:
    states = {"kvm1": state(Health.DOWN)}
    first = plan(states, set(), 0.0)
    assert [(a.alert, a.object, a.severity) for a in first.to_raise] == [
        (HOST_DOWN, "kvm1", Severity.ALERT)
    ]
    assert not plan(states, {(HOST_DOWN, "kvm1")}, 0.0)


@pytest.mark.parametrize("health", [Health.UP, Health.RECOVERED, Health.SUSPECTED])
def test_it_is_over_when_the_host_is_not_down(state: Any, health: Health) -> None:
    over = plan({"kvm1": state(health)}, {(HOST_DOWN, "kvm1")}, 0.0)
    assert over.to_clear == [(HOST_DOWN, "kvm1")]
    assert over.to_raise == []


def test_a_suspected_host_is_no_alert(state: Any) -> None:
    assert not plan({"kvm1": state(Health.SUSPECTED)}, set(), 0.0)


def test_libvirt_away_is_an_error_of_its_own(state: Any) -> None:
    made = plan({"kvm1": state(Health.UP, libvirt=False)}, set(), 0.0)
    assert [(a.alert, a.severity) for a in made.to_raise] == [(LIBVIRT_DOWN, Severity.ERROR)]
    over = plan({"kvm1": state(Health.UP)}, {(LIBVIRT_DOWN, "kvm1")}, 0.0)
    assert over.to_clear == [(LIBVIRT_DOWN, "kvm1")]


def test_the_host_being_down_takes_the_place_of_libvirt_being_away(state: Any) -> None:
    made = plan({"kvm1": state(Health.DOWN, libvirt=False)}, {(LIBVIRT_DOWN, "kvm1")}, 0.0)
    assert [a.alert for a in made.to_raise] == [HOST_DOWN]
    assert made.to_clear == [(LIBVIRT_DOWN, "kvm1")]


def test_a_copy_that_has_not_heard_the_host_leaves_its_libvirt_alone(state: Any) -> None:
    assert not plan({"kvm1": state(Health.UP, libvirt=None)}, {(LIBVIRT_DOWN, "kvm1")}, 0.0)


def test_a_removed_host_has_no_alerts(state: Any) -> None:
    both = {(HOST_DOWN, "kvm1"), (LIBVIRT_DOWN, "kvm1")}
    assert set(plan({"kvm1": state(None)}, both, 0.0).to_clear) == both


def test_a_host_that_is_long_suspected_is_an_alert(state: Any) -> None:
    suspected = {"kvm1": state(Health.SUSPECTED)}
    assert not plan(suspected, set(), 29.0, silent_after_s=30.0)
    made = plan(suspected, set(), 30.0, silent_after_s=30.0)
    assert [(a.alert, a.severity) for a in made.to_raise] == [(AGENT_SILENT, Severity.ERROR)]
    over = plan({"kvm1": state(Health.UP)}, {(AGENT_SILENT, "kvm1")}, 31.0)
    assert over.to_clear == [(AGENT_SILENT, "kvm1")]


def test_a_copy_that_begins_to_lead_does_not_clear_what_it_has_not_seen_begin(state: Any) -> None:
    assert not plan({"kvm1": state(Health.SUSPECTED)}, {(AGENT_SILENT, "kvm1")}, 1.0)


def test_a_host_that_is_off_has_no_alerts(state: Any) -> None:
    off = {"kvm1": state(Health.OFF, libvirt=False)}
    assert plan(off, {(LIBVIRT_DOWN, "kvm1")}, 0.0).to_clear == [(LIBVIRT_DOWN, "kvm1")]


def test_alerts_that_do_not_follow_from_states_are_left_alone(state: Any) -> None:
    assert not plan({"kvm1": state(Health.UP)}, {(UNFENCED, "kvm1")}, 0.0)
