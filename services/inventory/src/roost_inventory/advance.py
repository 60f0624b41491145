"""Carries one desktop's plan out, as far as it goes without choosing a host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import (
    DiskAttachment,
    DomainState,
    EnsureDesktop,
    Power,
    StopMode,
)
from roost_common.contracts.disk import EnsureDisk
from roost_inventory.migration_advance import advance_migration
from roost_inventory.migration_plan import End
from roost_inventory.model import Desktop
from roost_inventory.reconcile import Action, plan

Emit = Callable[[Message, str | None], None]
"""Takes a message and, for a node's command, the node."""

MOST_STEPS: Final = 12
"""More than any situation needs; a plan that does not settle is a bug."""


def advance(desktop: Desktop, run: UUID | None, now: datetime, emit: Emit) -> bool:
    """Do all that the plan says now; True when what is left is to find it a host.

    ``run`` is the present run of its host's agent: the only one that follows a command. Sets when
    the desktop is to be looked at next.
    """
    if desktop.migration is not None:
        end = advance_migration(desktop, run, now, emit)
        if end is None:
            return False
        if end is End.MOVED:
            run = desktop.told_agent
        elif end is End.STAYED and desktop.seen_state is DomainState.PAUSED:
            tell(desktop, emit)  # what was held for the switch goes on
    for _ in range(MOST_STEPS):
        desktop.void = desktop.told_agent != run
        step = plan(desktop.situation(), now)
        if step.action is None:
            desktop.next_check_at = step.check_at
            return False
        if step.action is Action.PLACE:
            return True
        _do(step.action, desktop, run, now, emit)
    raise RuntimeError(f"the plan for desktop {desktop.id} does not settle")


def tell(desktop: Desktop, emit: Emit) -> None:
    """Tell its node what should be."""
    emit(ensure_command(desktop), desktop.host)


def ensure_command(desktop: Desktop) -> EnsureDesktop:
    """The whole desired state of a desktop on the host it is assigned to."""
    disk = None
    if desktop.disk_path is not None and desktop.told is Power.ON:
        disk = DiskAttachment(path=desktop.disk_path, disk_id=desktop.id)
    return EnsureDesktop(
        desktop_id=desktop.id,
        desktop_name=desktop.name,
        generation=desktop.told_generation,
        power=desktop.told,
        spec=desktop.told_spec or desktop.spec,
        template=desktop.template,
        disk=disk,
        agent_id=desktop.told_agent,
        stop=desktop.told_stop,
        grace_s=desktop.grace_s,
    )


def eviction_command(desktop: Desktop, run: UUID | None) -> EnsureDesktop:
    """Take away a copy from a node that has no business with this desktop.

    ``run`` is the run of its agent that told of the copy.

    Every assignment has a generation of its own above this one, so the command cannot hit it.
    """
    return EnsureDesktop(
        desktop_id=desktop.id,
        desktop_name=desktop.name,
        generation=desktop.generation,
        power=Power.OFF,
        spec=desktop.spec,
        template=desktop.template,
        agent_id=run,
        stop=StopMode.POWEROFF,
        grace_s=0,
    )


def _do(action: Action, desktop: Desktop, run: UUID | None, now: datetime, emit: Emit) -> None:
    match action:
        case Action.RELEASE:
            desktop.release(desktop.stop, now)
            desktop.told_agent = run
            tell(desktop, emit)
        case Action.RELEASE_HARD:
            desktop.release(StopMode.POWEROFF, now)
            desktop.told_agent = run
            tell(desktop, emit)
        case Action.TELL:
            desktop.note_asked(now)
            desktop.told_agent = run
            tell(desktop, emit)
        case Action.DETACH:
            desktop.detach()
        case Action.MAKE_DISK:
            desktop.note_asked(now)
            emit(_disk_command(desktop, desktop.disk_generation, present=True), None)
        case Action.DROP_DISK:
            desktop.note_asked(now)
            # Above every generation that was ever asked for: no late command brings a file back.
            emit(_disk_command(desktop, desktop.disk_generation + 1, present=False), None)
        case Action.FINISH:
            desktop.finish(now)
        case Action.PLACE:
            raise AssertionError("placement is the caller's")


def _disk_command(desktop: Desktop, generation: int, *, present: bool) -> EnsureDisk:
    return EnsureDisk(
        disk_id=desktop.id,
        template_id=desktop.template.id,
        template_version=desktop.template.version,
        generation=generation,
        present=present,
    )
