"""Which run of a node's agent a fence ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from tests.unit.inventory.stage import SMALL, TEMPLATE

from roost_common.contracts.desktop import DomainObservation, DomainState, Power
from roost_common.contracts.host import FencedBy, FenceScope
from roost_common.testing.clock import FakeClock
from roost_inventory.fence import SKEW, Assigned, Fence, Verdict, verdict
from roost_inventory.model import Desktop
from roost_inventory.model.desktop_moves import Destination
from roost_inventory.model.migration import Cause
from roost_inventory.witness import Witness

AT = FakeClock().now()
FENCED, EARLIER, PRESENT = (UUID(int=number) for number in range(1, 4))
SECOND = timedelta(seconds=1)


def fence(by: FencedBy = FencedBy.DEVICE, *, began: timedelta) -> Fence:
    """Of `FENCED`, while inventory hears `PRESENT`, which began so long after it."""
    scope = FenceScope.RESTARTED if by is FencedBy.LEASE else FenceScope.ALL
    return Fence(FENCED, by, scope, AT, PRESENT, AT + began)


def test_runs_follow_each_other() -> None:
    late = fence(began=SECOND)
    assert late.ends(FENCED)
    assert late.ends(EARLIER)
    assert not late.ends(PRESENT), "it began when the host was back"


@pytest.mark.parametrize(
    ("began", "ends"),
    [(-SKEW - SECOND, True), (-SKEW + SECOND, False), (SKEW, False)],
)
def test_a_run_nobody_fenced_is_over_only_if_it_surely_began_before(
    began: timedelta, ends: bool
) -> None:
    """The clocks of who fences and of who hears may differ."""
    assert fence(began=began).ends(PRESENT) is ends
    assert not fence(FencedBy.LEASE, began=began).ends(PRESENT), "a lease ends one run alone"


def test_a_lease_says_nothing_about_what_is_not_restarted() -> None:
    over = fence(FencedBy.LEASE, began=SECOND)
    stays = Assigned(FENCED, restart=False, wanted=True)
    assert verdict(over, replace(stays, run=PRESENT)) is Verdict.KEEP, "of a later run"
    assert verdict(over, stays) is Verdict.DOUBTFUL
    assert verdict(fence(began=SECOND), stays) is Verdict.LEAVE_OFF
    assert verdict(over, Assigned(FENCED, restart=True, wanted=True)) is Verdict.RESTART
    assert verdict(over, Assigned(FENCED, restart=True, wanted=False)) is Verdict.FREE


@pytest.mark.parametrize(
    ("node", "by", "restart", "run", "said"),
    [
        ("source", FencedBy.DEVICE, True, FENCED, Verdict.RESTART),
        ("source", FencedBy.LEASE, True, FENCED, Verdict.RESTART),
        ("source", FencedBy.LEASE, False, FENCED, Verdict.DOUBTFUL),
        ("target", FencedBy.DEVICE, True, FENCED, Verdict.RESTART),
        ("target", FencedBy.LEASE, True, FENCED, Verdict.DOUBTFUL),
        ("target", FencedBy.LEASE, True, PRESENT, Verdict.KEEP),
        ("target", FencedBy.DEVICE, True, PRESENT, Verdict.KEEP),
    ],
)
def test_of_a_move_a_lease_says_least_about_its_target(
    node: str, by: FencedBy, *, restart: bool, run: UUID, said: Verdict
) -> None:
    """What arrived after the lease was given its list is not ended by it.

    ``run``: of the node's agent, to which the desktop was told, or to which it is being sent.
    """
    desktop = Desktop.create(
        desktop_id=UUID(int=9),
        name="d",
        pool_id=None,
        template=TEMPLATE,
        spec=SMALL.model_copy(update={"ha": SMALL.ha.model_copy(update={"restart": restart})}),
        power=Power.ON,
        ordered_at=AT,
        now=AT,
        correlation_id="test",
    )
    desktop.note_disk(1, "/disk.1")
    told = run if node == "source" else EARLIER
    desktop.assign("source", told, AT)
    up = DomainObservation(
        desktop_id=desktop.id,
        generation=desktop.told_generation,
        state=DomainState.RUNNING,
        observed_at=AT,
        boot_id=UUID(int=77),
    )
    assert desktop.observe(Witness("source", told), up, AT)
    desktop.settle()
    desktop.depart(
        Destination("target", "target.example", run),
        cause=Cause.REQUESTED,
        reason="Because.",
        now=AT,
        deadline=SECOND,
    )
    assert desktop.verdict_on(node, fence(by, began=SECOND)) is said
