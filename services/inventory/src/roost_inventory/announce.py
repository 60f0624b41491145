"""Which event a change of a desktop is: exactly one for each real change. Pure."""

from __future__ import annotations

from uuid import UUID

from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopCreated,
    DesktopDeleted,
    DesktopFact,
    DesktopReimaged,
    DesktopRestarted,
    DesktopStarted,
    DesktopStartRefused,
    DesktopState,
    DesktopStopped,
    DesktopView,
    Power,
    StopReason,
)
from roost_common.contracts.migration import DesktopMigrated

_COUNTERS = frozenset({"revision", "generation"})


def differs(before: DesktopView, after: DesktopView) -> bool:
    """Whether anybody outside would care. A generation alone is between inventory and the node."""
    return before.model_dump(exclude=set(_COUNTERS)) != after.model_dump(exclude=set(_COUNTERS))


def again(view: DesktopView) -> DesktopFact:
    """The event that says what is, for somebody who asks for what has been done."""
    deleted = view.state is DesktopState.DELETED
    return DesktopDeleted(desktop=view) if deleted else DesktopChanged(desktop=view)


def event_for(  # noqa: PLR0911 - one line for each event
    before: DesktopView | None,
    after: DesktopView,
    *,
    disk_renewed: bool,
    why: StopReason,
    migration_id: UUID | None = None,
) -> DesktopFact:
    """The event that says ``after``.

    ``migration_id``: the migration that was under way before.

    ``disk_renewed``: its disk of a higher generation than 1 has just become ready. ``why`` is the
    reason when it is found stopped.
    """
    if before is None:
        return DesktopCreated(desktop=after)
    if after.state is DesktopState.DELETED:
        return DesktopDeleted(desktop=after)
    run_on = after.boot_id is not None and after.boot_id == before.boot_id
    if migration_id is not None and run_on and before.host and after.host != before.host:
        return DesktopMigrated(desktop=after, migration_id=migration_id, from_host=before.host)
    if after.boot_id is not None and after.boot_id != before.boot_id:
        return (DesktopRestarted if before.restarting else DesktopStarted)(desktop=after)
    if after.boot_id is None and before.boot_id is not None:
        return DesktopStopped(desktop=after, reason=why)
    if disk_renewed:
        return DesktopReimaged(desktop=after)
    refused = after.problem is not None and after.problem != before.problem
    if refused and after.power is Power.ON and after.state is not DesktopState.RUNNING:
        return DesktopStartRefused(desktop=after)
    return DesktopChanged(desktop=after)
