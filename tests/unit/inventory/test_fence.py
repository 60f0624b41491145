"""Which run of a node's agent a fence ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from roost_common.contracts.host import FencedBy, FenceScope
from roost_common.testing.clock import FakeClock
from roost_inventory.fence import SKEW, Assigned, Fence, Verdict, verdict

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
