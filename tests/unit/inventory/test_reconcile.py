"""The plan: each place in the circle, and what is waited for there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from roost_common.contracts.desktop import DesktopState, DomainState, Power, StopMode
from roost_inventory.reconcile import Action, Situation, after, derive, plan

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)

FRESH = Situation(power=Power.ON)
READY = Situation(power=Power.ON, disk_ready=1)
STARTING = Situation(
    power=Power.ON, disk_ready=1, host="n1", told=Power.ON, told_generation=2, asked_at=NOW, asks=1
)
RUNNING = replace(STARTING, applied=True, seen=DomainState.RUNNING, seen_generation=2)
LEAVING = replace(
    RUNNING, power=Power.OFF, told=Power.OFF, told_generation=3, told_stop=StopMode.POWEROFF
)


def seconds(later: float) -> datetime:
    return NOW + timedelta(seconds=later)


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        (FRESH, Action.MAKE_DISK),
        (replace(FRESH, power=Power.OFF), Action.MAKE_DISK),
        (READY, Action.PLACE),
        (replace(READY, power=Power.OFF), None),
        (RUNNING, None),
        (replace(RUNNING, seen=DomainState.PAUSED), None),
        (replace(RUNNING, power=Power.OFF), Action.RELEASE),
        (replace(RUNNING, disk_wanted=2), Action.RELEASE_HARD),
        (replace(RUNNING, deleting=True), Action.RELEASE_HARD),
        (replace(RUNNING, seen=DomainState.SHUTOFF), Action.RELEASE_HARD),
        (replace(RUNNING, seen=DomainState.ABSENT), Action.RELEASE_HARD),
        (replace(STARTING, seen=DomainState.ABSENT), None),
        (replace(STARTING, seen=DomainState.ABSENT, refused=True), Action.RELEASE_HARD),
        (LEAVING, None),
        (replace(LEAVING, seen=DomainState.SHUTOFF), None),
        (replace(LEAVING, seen=DomainState.ABSENT), None),
        (replace(LEAVING, seen=DomainState.ABSENT, seen_generation=3), Action.DETACH),
        (replace(LEAVING, told_stop=StopMode.SHUTDOWN), Action.RELEASE_HARD),
        (replace(LEAVING, told_stop=StopMode.SHUTDOWN, stop=StopMode.SHUTDOWN), None),
        (
            replace(LEAVING, told_stop=StopMode.SHUTDOWN, stop=StopMode.SHUTDOWN, deleting=True),
            Action.RELEASE_HARD,
        ),
        (replace(LEAVING, told_stop=StopMode.SHUTDOWN, power=Power.ON), None),
        (replace(READY, deleting=True), Action.DROP_DISK),
        (replace(READY, deleting=True, disk_gone=True), Action.FINISH),
        (replace(READY, deleting=True, deleted=True, disk_gone=True), None),
    ],
)
def test_the_next_action(situation: Situation, action: Action | None) -> None:
    assert plan(situation, NOW).action is action


@pytest.mark.parametrize(
    ("situation", "action", "first", "second"),
    [
        (STARTING, Action.TELL, 10, 20),
        (LEAVING, Action.TELL, 10, 20),
        (replace(FRESH, asked_at=NOW, asks=1), Action.MAKE_DISK, 15, 30),
        (replace(READY, deleting=True, asked_at=NOW, asks=1), Action.DROP_DISK, 15, 30),
    ],
)
def test_what_has_no_effect_is_said_again_ever_more_slowly(
    situation: Situation, action: Action, first: int, second: int
) -> None:
    step = plan(situation, NOW)
    assert (step.action, step.check_at) == (None, seconds(first))
    assert plan(situation, seconds(first - 0.1)).action is None
    assert plan(situation, seconds(first)).action is action
    again = replace(situation, asks=2)
    assert plan(again, seconds(first)).check_at == seconds(second)
    assert plan(replace(situation, asks=50), seconds(70)).action is action, "never given up"


def test_a_host_that_does_not_answer_is_told_once_and_never_left() -> None:
    for situation in (STARTING, LEAVING):
        silent = replace(situation, reachable=False)
        step = plan(silent, seconds(3600))
        assert (step.action, step.check_at) == (None, None)
        assert plan(replace(silent, asks=0, asked_at=None), NOW).action is Action.TELL
    assert plan(replace(RUNNING, reachable=False), NOW).action is None


@pytest.mark.parametrize("situation", [READY, FRESH, replace(READY, deleting=True)])
def test_nothing_is_tried_before_its_time(situation: Situation) -> None:
    waiting = replace(situation, retry_at=seconds(5))
    step = plan(waiting, NOW)
    assert (step.action, step.check_at) == (None, seconds(5))
    assert plan(waiting, seconds(5)).action is not None


def test_a_back_off_does_not_keep_a_node_from_being_told() -> None:
    waiting = replace(LEAVING, retry_at=seconds(120))
    assert plan(waiting, seconds(10)).action is Action.TELL


ALL: dict[str, tuple[Any, ...]] = {
    "power": tuple(Power),
    "deleting": (False, True),
    "host": (None, "n1"),
    "told": tuple(Power),
    "applied": (False, True),
    "seen": (None, *DomainState),
    "seen_generation": (0, 2, 3),
    "refused": (False, True),
    "disk_ready": (0, 1),
    "reachable": (False, True),
}


def test_only_a_desktop_without_a_host_is_placed_and_only_proof_frees_a_host() -> None:
    for values in product(*ALL.values()):
        s = Situation(told_generation=3, **dict(zip(ALL, values, strict=True)))
        action = plan(s, NOW).action
        if action is Action.PLACE:
            assert s.host is None
            assert s.power is Power.ON
            assert s.disk_ready == s.disk_wanted
            assert not s.deleting
        if action is Action.DETACH:
            assert s.told is Power.OFF
            assert s.seen is DomainState.ABSENT
            assert s.seen_generation >= s.told_generation
        if action in (Action.MAKE_DISK, Action.DROP_DISK, Action.FINISH):
            assert s.host is None, "a disk in use is left alone"
        assert isinstance(derive(s), DesktopState)


@pytest.mark.parametrize(
    ("situation", "state"),
    [
        (FRESH, DesktopState.PROVISIONING),
        (READY, DesktopState.STARTING),
        (replace(READY, power=Power.OFF), DesktopState.STOPPED),
        (STARTING, DesktopState.STARTING),
        (RUNNING, DesktopState.RUNNING),
        (replace(RUNNING, power=Power.OFF), DesktopState.STOPPING),
        (replace(RUNNING, disk_wanted=2), DesktopState.STOPPING),
        (replace(RUNNING, reachable=False), DesktopState.UNKNOWN),
        (replace(RUNNING, seen=DomainState.SHUTOFF), DesktopState.STARTING),
        (LEAVING, DesktopState.STOPPING),
        (replace(LEAVING, seen=None, applied=False), DesktopState.STOPPING),
        (replace(LEAVING, seen=DomainState.SHUTOFF), DesktopState.STOPPED),
        (replace(LEAVING, seen=DomainState.SHUTOFF, disk_wanted=2), DesktopState.PROVISIONING),
        (replace(RUNNING, deleting=True), DesktopState.DELETING),
        (replace(RUNNING, deleting=True, reachable=False), DesktopState.DELETING),
        (replace(READY, deleted=True), DesktopState.DELETED),
    ],
)
def test_the_state_a_person_sees(situation: Situation, state: DesktopState) -> None:
    assert derive(situation) is state


def test_steps_of_a_back_off() -> None:
    steps = (1.0, 5.0)
    assert [after(steps, n).total_seconds() for n in (0, 1, 2, 3, 99)] == [1, 1, 5, 5, 5]
