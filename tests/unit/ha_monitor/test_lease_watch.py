"""When a node's own lease may be counted on, and who is granted one that counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_ha_monitor.detector import Pulse
from roost_ha_monitor.lease_policy import armed, may_arm
from roost_ha_monitor.lease_watch import Written, due

AGENT, LEASE_S, MARGIN_S = UUID(int=7), 45.0, 10.0


def pulse(at: float = 100.0, **fields: Any) -> Pulse:
    known = Pulse(
        agent_id=AGENT,
        sequence=1,
        sent_at=0.0,
        arrived_at=at,
        heard_at=at,
        libvirt=True,
        lease_s=LEASE_S,
        lease_armed=True,
    )
    return replace(known, **fields)


WRITTEN = Written(armed=True, agent_id=AGENT)


def due_at(
    known: Pulse | None,
    written: Written = WRITTEN,
    *,
    observing_since: float | None = 0.0,
    leading_since: float | None = 0.0,
) -> float | None:
    return due(
        known,
        written,
        observing_since=observing_since,
        leading_since=leading_since,
        margin_s=MARGIN_S,
    )


def test_it_counts_from_the_latest_of_beat_hearing_and_leading() -> None:
    assert due_at(pulse()) == 155.0
    assert due_at(pulse(), observing_since=130.0) == 185.0
    assert due_at(pulse(), leading_since=140.0) == 195.0


def test_it_counts_from_the_arrival_of_a_beat_that_was_late() -> None:
    assert due_at(pulse(arrived_at=120.0, heard_at=90.0)) == 175.0


@pytest.mark.parametrize(
    "case",
    [
        {"known": None},
        {"known": pulse(lease_armed=False)},
        {"known": pulse(lease_s=0.0)},
        {"known": pulse(), "written": Written(armed=False, agent_id=AGENT)},
        {"known": pulse(), "written": Written(armed=True, agent_id=uuid4())},
        {"known": pulse(), "written": Written(armed=True, agent_id=None)},
        {"known": pulse(), "written": Written(armed=True, agent_id=AGENT, armed_sequence=1)},
        {"known": pulse(), "observing_since": None},
        {"known": pulse(), "leading_since": None},
    ],
)
def test_it_is_not_counted_on_without_all_that_it_rests_on(case: dict[str, Any]) -> None:
    assert due_at(**case) is None


@given(
    sent=st.floats(0, 100),
    way=st.floats(0, 30),
    hears=st.floats(0, 200),
    leads=st.floats(0, 200),
    slow=st.floats(0.99, 1.01),
)
def test_the_node_has_always_ended_before(
    sent: float, way: float, hears: float, leads: float, slow: float
) -> None:
    """Its lease runs from when it sent the beat, by a clock that may run a hundredth slower."""
    ends = sent + LEASE_S / slow
    counted = due_at(pulse(sent + way), observing_since=hears, leading_since=leads)
    assert counted is not None
    assert counted > ends + MARGIN_S - 1.0


def test_hosts_without_a_device_are_armed() -> None:
    shared = uuid4()
    pulses = {
        "kvm1": pulse(witness=shared),
        "kvm2": pulse(witness=shared),
        "kvm3": pulse(witness=shared, lease_s=0.0),
    }
    assert armed(pulses, {"kvm2"}, disarmed=False) == {"kvm1"}


def test_nobody_is_armed_while_all_is_disarmed() -> None:
    shared = uuid4()
    assert armed({"kvm1": pulse(witness=shared)}, (), disarmed=True) == frozenset()


def test_nobody_is_armed_who_cannot_see_whether_the_others_are_granted() -> None:
    assert armed({"kvm1": pulse(), "kvm2": pulse()}, (), disarmed=False) == frozenset()


def test_nobody_is_armed_while_nodes_see_different_directories() -> None:
    here, there = uuid4(), uuid4()
    same = {"kvm1": pulse(witness=here), "kvm2": pulse(witness=here)}
    assert armed(same, (), disarmed=False) == {"kvm1", "kvm2"}
    assert armed(same | {"kvm3": pulse(witness=there)}, (), disarmed=False) == frozenset()
    assert armed(same | {"kvm3": pulse(witness=None)}, (), disarmed=False) == frozenset()


def test_a_node_is_armed_anew_only_when_it_says_that_it_is_not() -> None:
    assert may_arm(pulse(lease_armed=False), armed_already=False)
    assert not may_arm(pulse(), armed_already=False)
    assert may_arm(pulse(), armed_already=True)
