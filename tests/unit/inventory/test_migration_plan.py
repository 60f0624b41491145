"""Where a desktop that is being moved is: what each node's word proves, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainState
from roost_inventory.migration_plan import (
    LAST_WORD,
    SILENCE,
    STALE,
    Action,
    Course,
    End,
    Word,
    plan,
)

BEGAN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
G = 7
REFUSED = Problem(code="desktop.migration-failed", detail="The target's disk is not there.")
DEADLINE = BEGAN + timedelta(minutes=10)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def runs(seconds: float, *, leaving: bool = False) -> Word:
    return Word(DomainState.RUNNING, at(seconds), G - 1, leaving)


def arrived(seconds: float, state: DomainState = DomainState.RUNNING) -> Word:
    return Word(state, at(seconds), G)


def lacks(seconds: float) -> Word:
    return Word(DomainState.ABSENT, at(seconds))


NEW = Course(generation=G, deadline_at=DEADLINE)
TOLD = replace(NEW, asked_at=BEGAN, asks=1)
UNDER_WAY = replace(TOLD, source=runs(5, leaving=True), target=lacks(5))
REFUSAL = replace(TOLD, ended_at=at(10), ended_by=REFUSED)
SUCCESS = replace(TOLD, ended_at=at(10), ended_by=None)
FENCED = replace(UNDER_WAY, source_fenced_at=at(20))


@pytest.mark.parametrize(
    ("course", "end"),
    [
        (NEW, None),
        (UNDER_WAY, None),
        # It has moved when both say so, whatever the source's own word is.
        (replace(TOLD, source=lacks(8), target=arrived(8)), End.MOVED),
        (replace(REFUSAL, source=lacks(8), target=arrived(8)), End.MOVED),
        (replace(TOLD, source=lacks(8), target=arrived(9, DomainState.SHUTOFF)), End.MOVED),
        (replace(TOLD, source=None, target=arrived(8)), None),
        (replace(TOLD, source=runs(9), target=arrived(8)), None),
        # What the target has of an earlier time is not this desktop's arrival.
        (replace(TOLD, source=lacks(8), target=replace(arrived(8), generation=G - 1)), None),
        # Absence of both is believed when the target was looked at afterwards.
        (replace(TOLD, source=lacks(8), target=lacks(7)), None),
        (replace(TOLD, source=lacks(8), target=lacks(9)), None),
        (replace(TOLD, source=lacks(8), target=lacks(8 + LAST_WORD.seconds + 1)), End.LOST),
        # It has stayed when the source says that it is over, and later that it runs there.
        (replace(TOLD, source=runs(8), target=lacks(8)), None),
        (replace(REFUSAL, source=runs(9), target=lacks(11)), None),
        (replace(REFUSAL, source=runs(11), target=lacks(9)), None),
        (replace(REFUSAL, source=runs(11, leaving=True), target=lacks(11)), None),
        (replace(REFUSAL, source=runs(11), target=lacks(11)), End.STAYED),
        (replace(REFUSAL, source=Word(DomainState.SHUTOFF, at(11)), target=lacks(11)), End.STAYED),
        # A source that says it was moved is not contradicted by a late word of its own.
        (replace(SUCCESS, source=runs(11), target=lacks(11)), None),
        (
            replace(
                SUCCESS,
                source=runs(11 + STALE.seconds),
                target=lacks(11 + STALE.seconds),
            ),
            End.STAYED,
        ),
        # The source is fenced: the target decides, with something it says afterwards.
        (FENCED, None),
        (replace(FENCED, target=arrived(6)), End.MOVED),
        (replace(FENCED, target=lacks(21)), None),
        (replace(FENCED, target=lacks(21 + LAST_WORD.seconds)), End.LOST),
        # The target is fenced: the source decides.
        (replace(UNDER_WAY, target_fenced_at=at(20)), None),
        (replace(TOLD, target_fenced_at=at(20), source=lacks(8)), End.LOST),
        (replace(TOLD, target_fenced_at=at(20), source=lacks(8), target=arrived(9)), End.LOST),
        (replace(REFUSAL, target_fenced_at=at(9), source=runs(11)), End.STAYED),
        # Both.
        (replace(FENCED, target_fenced_at=at(25)), End.LOST),
        (replace(FENCED, target_fenced_at=at(25), target=arrived(6)), End.LOST),
        # A source that knows of no migration says nothing of its end: its silence is counted.
        (replace(TOLD, cancelled_at=at(10), source=runs(30), target=lacks(30)), None),
        (
            replace(
                TOLD,
                cancelled_at=at(10),
                source=runs(11 + SILENCE.seconds),
                target=lacks(11 + SILENCE.seconds),
            ),
            End.STAYED,
        ),
        # A libvirtd that restarts in the last moment leaves an empty shell.
        (
            replace(REFUSAL, source=Word(DomainState.PAUSED, at(11)), target=arrived(11)),
            End.MOVED,
        ),
        (
            replace(REFUSAL, source=Word(DomainState.PAUSED, at(9)), target=arrived(11)),
            None,
        ),
        (replace(REFUSAL, source=runs(11), target=arrived(11)), None),
    ],
)
def test_where_it_is(course: Course, end: End | None) -> None:
    assert plan(course, at(100)).end is end


@pytest.mark.parametrize(
    ("course", "now", "action"),
    [
        (NEW, 0, Action.TELL),
        (TOLD, 9, None),
        (TOLD, 10, Action.TELL),
        (UNDER_WAY, 300, None),
        (replace(TOLD, void=True), 1, Action.TELL),
        (replace(TOLD, reachable=False), 300, None),
        (replace(NEW, reachable=False), 0, Action.TELL),
        (replace(TOLD, wanted=False), 1, Action.CANCEL),
        (replace(UNDER_WAY, wanted=False), 6, Action.CANCEL),
        (replace(UNDER_WAY, wanted=False, reachable=False), 6, Action.CANCEL),
        (UNDER_WAY, 600, Action.CANCEL),
        (replace(UNDER_WAY, target_fenced_at=at(20)), 21, Action.CANCEL),
        (replace(UNDER_WAY, cancelled_at=at(6), asked_at=at(6)), 7, None),
        (replace(UNDER_WAY, cancelled_at=at(6), asked_at=at(6)), 16, Action.CANCEL),
        # Over, or gone: there is nothing to tell any more.
        (REFUSAL, 300, None),
        (replace(REFUSAL, wanted=False), 300, None),
        (replace(TOLD, source=lacks(8)), 300, None),
        (FENCED, 700, None),
    ],
)
def test_what_the_source_is_told(course: Course, now: float, action: Action | None) -> None:
    assert plan(course, at(now)).action is action


def test_a_migration_is_looked_at_when_its_time_is_over() -> None:
    assert plan(UNDER_WAY, at(6)).check_at == DEADLINE
    assert plan(TOLD, at(6)).check_at == at(10)
