"""Carries the plan of one desktop's migration out: tells its source, and concludes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import ceil
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Message
from roost_common.contracts.host import HostDesktopsLost, LostDesktop
from roost_common.contracts.migration import CancelMigration, MigrateDesktop
from roost_inventory import metrics
from roost_inventory.migration_plan import Action, End, plan
from roost_inventory.model import Desktop, Migration
from roost_inventory.model.desktop_moves import OVERTAKEN, TARGET_FENCED, TOO_LATE

logger = log.get_logger(__name__)

Emit = Callable[[Message, str | None], None]
GRACE_S = 5
"""The source gives up this long before inventory does, so that it says why."""


def advance_migration(desktop: Desktop, run: UUID | None, now: datetime, emit: Emit) -> End | None:
    """Do what is to be done for a desktop that is being moved; its end when that is known.

    ``run`` is the present run of its host's agent. Sets when the desktop is to be looked at next.
    """
    migration = desktop.migration
    if migration is None:
        raise ValueError(f"desktop {desktop.id} is not being moved")
    step = plan(desktop.course(run), now)
    if step.end is not None:
        _conclude(desktop, step.end, now, emit)
        return step.end
    if step.action is not None:
        _tell(desktop, migration, step.action, run=run, now=now, emit=emit)
        step = plan(desktop.course(run), now)
    desktop.next_check_at = step.check_at
    return None


def _tell(
    desktop: Desktop,
    migration: Migration,
    action: Action,
    *,
    run: UUID | None,
    now: datetime,
    emit: Emit,
) -> None:
    if action is Action.CANCEL:
        _note_why(desktop, migration, now)
        emit(CancelMigration(migration_id=migration.id, desktop_id=desktop.id), migration.source)
    # After the other one: whoever knows that it is not wanted answers with its end.
    left_s = (migration.deadline_at - now).total_seconds()
    emit(
        MigrateDesktop(
            migration_id=migration.id,
            desktop_id=desktop.id,
            boot_id=migration.boot_id,
            generation=migration.generation,
            agent_id=run,
            target_node=migration.target,
            target_address=migration.target_address,
            deadline_s=max(1, ceil(left_s) - GRACE_S),
        ),
        migration.source,
    )
    migration.note_told(run, now, give_up=action is Action.CANCEL)


def _note_why(desktop: Desktop, migration: Migration, now: datetime) -> None:
    if migration.cancelled or migration.given_up_at is not None:
        return
    if not desktop.assigned().wanted:
        migration.cancel(OVERTAKEN)
    elif migration.target_fenced_at is not None:
        migration.problem = TARGET_FENCED
    elif now >= migration.deadline_at:
        migration.problem = TOO_LATE


def _conclude(desktop: Desktop, end: End, now: datetime, emit: Emit) -> None:
    migration = desktop.conclude(end, now)
    metrics.MIGRATIONS.labels(migration.state.value).inc()
    logger.info(
        "migration.ended",
        migration=str(migration.id),
        desktop=str(desktop.id),
        end=end.name.lower(),
        problem=migration.problem.code if migration.problem else None,
    )
    if end is End.LOST and migration.lost_with is not None:
        node, incident = migration.lost_with
        # Whoever follows the incident may not have heard of this one: it might have been moved.
        lost = LostDesktop(
            desktop_id=desktop.id,
            desktop_name=desktop.name,
            revision=desktop.revision + 1,  # of the event in which it is published
            restart=desktop.restarting,
            priority=desktop.priority,
        )
        emit(HostDesktopsLost(node=node, incident_id=incident, desktops=(lost,)), None)
