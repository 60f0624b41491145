"""A desktop's transitions: what is believed of a node, and what follows from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.unit.inventory.stage import FULL, LOCKED, SMALL, TEMPLATE

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DomainObservation,
    DomainState,
    Power,
    StopMode,
    StopReason,
)
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Conflict
from roost_common.testing.clock import FakeClock
from roost_inventory.advance import eviction_command
from roost_inventory.model import Desktop
from roost_inventory.reconcile import Action, plan
from roost_inventory.witness import Witness

BOOT = UUID(int=77)
N1, N2 = Witness("n1"), Witness("n2")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def now(clock: FakeClock) -> datetime:
    return clock.now()


@pytest.fixture
def desktop(now: datetime) -> Desktop:
    """One with a disk, without a host."""
    made = Desktop.create(
        desktop_id=uuid4(),
        name="d",
        pool_id=None,
        template=TEMPLATE,
        spec=SMALL,
        power=Power.ON,
        ordered_at=now,
        now=now,
        correlation_id="test",
    )
    assert made.note_disk(1, "/disk.1")
    return made


def seen(
    desktop: Desktop, at: datetime, state: DomainState = DomainState.RUNNING, **facts: Any
) -> DomainObservation:
    boot = BOOT if state is DomainState.RUNNING else None
    base: dict[str, Any] = {"generation": desktop.told_generation, "boot_id": boot}
    return DomainObservation(
        desktop_id=desktop.id, state=state, observed_at=at, **{**base, **facts}
    )


def run(desktop: Desktop, at: datetime, node: str = "n1") -> None:
    desktop.assign(node, None, at)
    assert desktop.observe(Witness(node), seen(desktop, at), at)
    assert desktop.is_up


def later(at: datetime, seconds: float) -> datetime:
    return at + timedelta(seconds=seconds)


def test_an_observation_counts_once_and_not_after_a_newer_one(
    desktop: Desktop, now: datetime
) -> None:
    run(desktop, now)
    off = seen(desktop, later(now, -1), DomainState.SHUTOFF, stop_reason=StopReason.CRASHED)
    assert not desktop.observe(N1, off, now)
    assert not desktop.observe(N1, seen(desktop, now, DomainState.SHUTOFF), now)
    assert desktop.is_up
    assert desktop.failures == 0


def test_what_another_node_or_another_assignment_says_is_not_believed(
    desktop: Desktop, now: datetime
) -> None:
    run(desktop, now)
    assert not desktop.observe(N2, seen(desktop, later(now, 1), DomainState.SHUTOFF), now)
    old = seen(desktop, later(now, 1), DomainState.SHUTOFF, generation=1)
    assert not desktop.observe(N1, old, now)
    assert desktop.is_up


def test_an_observation_of_the_stay_before_on_the_same_node_is_old(
    desktop: Desktop, now: datetime
) -> None:
    run(desktop, now)
    desktop.release(StopMode.POWEROFF, now)
    gone = seen(desktop, later(now, 5), DomainState.ABSENT)
    desktop.observe(N1, gone, now)
    desktop.detach()
    desktop.assign("n1", None, now)
    late = gone.model_copy(update={"generation": 0, "observed_at": later(now, 4)})
    assert not desktop.observe(N1, late, now)
    desktop.release(StopMode.POWEROFF, now)
    desktop.detach()
    desktop.assign("n2", None, now)
    slow_clock = seen(desktop, later(now, -3600))
    assert desktop.observe(N2, slow_clock, now), "another node's clock says nothing of this one"


def test_a_node_whose_clock_was_set_back_is_believed_from_the_next_run_of_its_agent_on(
    desktop: Desktop, now: datetime
) -> None:
    before, after = Witness("n1", UUID(int=1)), Witness("n1", UUID(int=2))
    desktop.assign("n1", None, now)
    assert desktop.observe(before, seen(desktop, now), now)
    off = seen(desktop, later(now, -3600), DomainState.SHUTOFF, stop_reason=StopReason.CRASHED)
    assert not desktop.observe(before, off, now), "one run's time only grows"
    assert desktop.observe(after, off, now)
    assert not desktop.is_up
    assert not desktop.observe(after, seen(desktop, later(now, -3601)), now)


def test_absence_told_with_an_earlier_clock_is_believed_of_the_next_run(
    desktop: Desktop, now: datetime
) -> None:
    before, after = Witness("n1", UUID(int=1)), Witness("n1", UUID(int=2))
    desktop.assign("n1", None, now)
    desktop.observe(before, seen(desktop, now), now)
    at = later(now, -3600)
    assert not desktop.observe_absence(before, at, now, now)
    assert desktop.observe_absence(after, at, now, now)
    assert not desktop.is_up


def test_what_went_with_a_host_that_came_back_by_itself_is_its_users_still(
    desktop: Desktop, now: datetime
) -> None:
    before, after = Witness("n1", UUID(int=1)), Witness("n1", UUID(int=2))
    desktop.assign("n1", before.agent_id, now)
    desktop.observe(before, seen(desktop, now), now)
    lineage = desktop.lineage
    assert desktop.observe_absence(after, later(now, 60), now, later(now, 60))
    assert (desktop.stop_reason, desktop.restarting) == (StopReason.HOST_FAILED, True)
    assert (desktop.failures, desktop.lineage) == (0, lineage)


def test_what_vanishes_while_its_host_goes_on_was_taken_away(
    desktop: Desktop, now: datetime
) -> None:
    run(desktop, now)
    assert desktop.observe_absence(N1, later(now, 60), now, later(now, 60))
    assert (desktop.stop_reason, desktop.restarting) == (StopReason.LOST, False)


@pytest.mark.parametrize(
    ("reason", "power", "told"),
    [
        (StopReason.GUEST_SHUTDOWN, Power.OFF, StopReason.GUEST_SHUTDOWN),
        (StopReason.CRASHED, Power.ON, StopReason.CRASHED),
        (None, Power.ON, StopReason.CRASHED),
    ],
)
def test_why_it_stopped_decides_what_is_next(
    desktop: Desktop, now: datetime, reason: StopReason | None, power: Power, told: StopReason
) -> None:
    run(desktop, now)
    off = seen(desktop, later(now, 1), DomainState.SHUTOFF, stop_reason=reason)
    desktop.observe(N1, off, later(now, 1))
    assert (desktop.power, desktop.stop_reason, desktop.boot_id) == (power, told, None)


def test_the_same_end_seen_twice_is_one_failure(desktop: Desktop, now: datetime) -> None:
    run(desktop, now)
    for second in (1, 2, 3):
        desktop.observe(N1, seen(desktop, later(now, second), DomainState.SHUTOFF), now)
    assert desktop.failures == 1


def test_a_desktop_that_ran_well_has_not_failed_before(desktop: Desktop, now: datetime) -> None:
    desktop.failures = 4
    run(desktop, now)
    at = later(now, 61)
    desktop.observe(N1, seen(desktop, at, DomainState.SHUTOFF), at)
    assert desktop.failures == 1
    assert desktop.problem is None


def test_a_shutdown_during_a_reimage_does_not_keep_it_off(desktop: Desktop, now: datetime) -> None:
    run(desktop, now)
    desktop.order_reimage(2, None)
    off = seen(desktop, later(now, 1), DomainState.SHUTOFF, stop_reason=StopReason.GUEST_SHUTDOWN)
    desktop.observe(N1, off, now)
    assert desktop.power is Power.ON


def test_a_refusal_is_a_problem_a_back_off_and_a_reason_to_go_elsewhere(
    desktop: Desktop, now: datetime
) -> None:
    desktop.assign("n1", None, now)
    desktop.observe(N1, seen(desktop, now, DomainState.ABSENT, problem=LOCKED), now)
    assert desktop.problem == LOCKED
    assert desktop.shunned == "n1"
    assert desktop.retry_at is not None
    assert plan(desktop.situation(), now).action is Action.RELEASE_HARD


def test_a_report_without_it_is_not_believed_too_soon(desktop: Desktop, now: datetime) -> None:
    desktop.assign("n1", None, now)
    old_agent = later(now, -3600)
    assert not desktop.observe_absence(N1, later(now, 60), old_agent, later(now, 60)), (
        "it may not have come to it yet"
    )
    desktop.observe(N1, seen(desktop, later(now, 61)), later(now, 61))
    assert not desktop.observe_absence(N1, later(now, 70), old_agent, later(now, 70))
    assert not desktop.observe_absence(N2, later(now, 90), old_agent, later(now, 90))
    assert desktop.observe_absence(N1, later(now, 71), old_agent, later(now, 71))
    assert desktop.stop_reason is StopReason.LOST
    assert desktop.power is Power.ON
    assert plan(desktop.situation(), later(now, 71)).action is Action.RELEASE_HARD


def test_a_report_proves_absence_only_of_an_agent_that_has_had_the_time(
    desktop: Desktop, now: datetime
) -> None:
    run(desktop, now)
    desktop.release(StopMode.POWEROFF, later(now, 100))
    began = later(now, 130)
    assert not desktop.observe_absence(N1, later(now, 140), now, later(now, 140))
    assert not desktop.observe_absence(N1, later(now, 174), began, later(now, 174))
    assert desktop.observe_absence(N1, later(now, 175), began, later(now, 175))
    assert plan(desktop.situation(), later(now, 175)).action is Action.DETACH


def test_an_unproven_absence_frees_no_host(desktop: Desktop, now: datetime) -> None:
    run(desktop, now)
    desktop.release(StopMode.POWEROFF, now)
    unmarked = seen(desktop, later(now, 1), DomainState.ABSENT, generation=0)
    desktop.observe(N1, unmarked, now)
    assert plan(desktop.situation(), now).action is None


def test_of_two_power_orders_the_later_counts(desktop: Desktop, now: datetime) -> None:
    assert desktop.order_power(Power.OFF, later(now, 2), stop=StopMode.POWEROFF, grace_s=0)
    assert not desktop.order_power(Power.ON, later(now, 1), stop=StopMode.POWEROFF, grace_s=0)
    assert desktop.power is Power.OFF


def test_an_order_that_changes_nothing_does_not_shorten_a_back_off(
    desktop: Desktop, now: datetime
) -> None:
    desktop.retry_at = later(now, 30)
    desktop.order_power(Power.ON, later(now, 1), stop=StopMode.POWEROFF, grace_s=0)
    assert desktop.retry_at == later(now, 30)


def test_a_reimage_goes_forward_only(desktop: Desktop) -> None:
    other = TemplateRef(id=UUID(int=8), name="other", version=3)
    assert desktop.order_reimage(3, other)
    assert not desktop.order_reimage(2, TEMPLATE)
    assert not desktop.order_reimage(3, TEMPLATE)
    assert (desktop.disk_generation, desktop.template) == (3, other)


def test_only_the_wanted_disk_counts(desktop: Desktop, now: datetime) -> None:
    desktop.order_reimage(3, None)
    assert not desktop.note_disk(2, "/disk.2")
    assert not desktop.note_disk_refused(3, FULL, now, retryable=True), "it has not been asked"
    desktop.note_asked(now)
    assert desktop.note_disk_refused(3, FULL, now, retryable=True)
    assert not desktop.note_disk_refused(3, FULL, now, retryable=True)
    assert desktop.problem == FULL
    assert desktop.note_disk(3, "/disk.3")
    assert desktop.problem is None
    assert not desktop.note_disk(3, "/disk.3")
    assert not desktop.note_disk_gone(3), "nobody wanted it gone"


def test_a_refusal_that_asking_again_cannot_help_waits_a_minute(
    desktop: Desktop, now: datetime
) -> None:
    desktop.order_reimage(2, None)
    desktop.note_asked(now)
    desktop.note_disk_refused(2, FULL, now, retryable=False)
    assert desktop.retry_at == later(now, 60)


def test_nothing_is_ordered_of_what_is_being_deleted(desktop: Desktop, now: datetime) -> None:
    assert desktop.order_deletion()
    assert not desktop.order_deletion()
    assert not desktop.order_power(Power.ON, later(now, 1), stop=StopMode.POWEROFF, grace_s=0)
    assert not desktop.order_reimage(9, None)
    with pytest.raises(Conflict):
        desktop.order_spec(DesktopSpec(vcpus=2))
    assert desktop.power is Power.OFF


def test_new_hardware_waits_for_the_next_start(desktop: Desktop, now: datetime) -> None:
    run(desktop, now)
    desktop.order_spec(DesktopSpec(vcpus=4, memory_mib=4096))
    assert desktop.told_spec == SMALL
    assert desktop.reserved_memory_mib == SMALL.memory_mib
    desktop.release(StopMode.POWEROFF, now)
    desktop.detach()
    desktop.assign("n1", None, now)
    assert desktop.reserved_memory_mib == 4096


def test_a_guest_in_trouble_shows_it_while_it_runs(desktop: Desktop, now: datetime) -> None:
    trouble = Problem(code="guest.io-error", detail="Its disk is full.")
    run(desktop, now)
    desktop.observe(N1, seen(desktop, later(now, 1), problem=trouble), now)
    assert desktop.is_up
    assert desktop.problem == trouble
    desktop.observe(N1, seen(desktop, later(now, 2)), now)
    assert desktop.problem is None


def test_taking_a_copy_away_never_hits_an_assignment(desktop: Desktop, now: datetime) -> None:
    run(desktop, now)
    first = desktop.told_generation
    desktop.release(StopMode.POWEROFF, now)
    desktop.detach()
    eviction = eviction_command(desktop, None)
    assert (eviction.power, eviction.stop) == (Power.OFF, StopMode.POWEROFF)
    assert first < eviction.generation
    desktop.assign("n1", None, now)
    assert eviction.generation < desktop.told_generation
