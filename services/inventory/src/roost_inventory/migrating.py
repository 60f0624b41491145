"""Moving a desktop to another host while it runs: ordered by a person, an evacuation, a policy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from roost_common import log
from roost_common.contracts.base import Delivery, Problem
from roost_common.contracts.migration import MigrationEnded, MigrationProgress
from roost_common.errors import Conflict
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory.changes import published
from roost_inventory.migration_target import target_for
from roost_inventory.model import Desktop, Migration
from roost_inventory.model.desktop_moves import Destination
from roost_inventory.model.migration import Cause
from roost_inventory.placement import Demand
from roost_inventory.repository import Desktops, Hosts, Migrations
from roost_inventory.settings import Settings

logger = log.get_logger(__name__)

CANCELLED: Final = Problem(
    code="desktop.migration-cancelled", detail="The migration was cancelled."
)


class Migrating:
    """Orders of migrations, and what their sources say of them.

    What is ordered is told to the nodes by the reconcile loop.
    """

    def __init__(
        self, unit_of_work: UnitOfWork, settings: Settings, wake: Callable[[], None]
    ) -> None:
        self._unit = unit_of_work
        self._overcommit = settings.overcommit
        self._policy = settings.placement_policy
        self._deadline = timedelta(seconds=settings.migration_deadline_s)
        self._wake = wake

    async def begin(
        self,
        transaction: Transaction,
        desktop: Desktop,
        target: str | None,
        reason: str,
        correlation_id: str,
        *,
        cause: Cause = Cause.REQUESTED,
    ) -> Migration:
        """Have a locked desktop moved to this host, or to the one that placement chooses.

        ``reason`` is in words. Raises `Conflict` where it cannot be moved, or not there; then
        nothing has changed.
        """
        _, source = desktop.require_movable()
        hosts = Hosts(transaction.session)
        chosen = target_for(
            Demand(desktop.reserved_vcpus, desktop.reserved_memory_mib),
            source,
            target,
            hosts=await hosts.locked_candidates(),
            abilities=await hosts.abilities(),
            overcommit=self._overcommit,
            policy=self._policy,
        )
        if isinstance(chosen, Problem):
            raise Conflict(chosen.code, "{why}", why=chosen.detail)
        to = await hosts.by_name(chosen)
        if to is None:
            raise Conflict("host.unusable", "{host} is gone.", host=chosen)
        with published(transaction, desktop):
            migration = desktop.depart(
                Destination(to.name, to.address, to.agent_id),
                cause=cause,
                reason=reason,
                now=self._unit.clock.now(),
                deadline=self._deadline,
            )
        desktop.correlation_id = correlation_id
        transaction.after_commit(self._wake)
        logger.info(
            "migration.ordered",
            migration=str(migration.id),
            desktop=str(desktop.id),
            source=source,
            target=to.name,
            cause=cause.value,
        )
        return migration

    def cancel(self, transaction: Transaction, desktop: Desktop) -> None:
        """Have a locked desktop stay where it is, if it still can. Raises `Conflict` when it is
        not being moved."""
        migration = desktop.migration
        if migration is None:
            raise Conflict("migration.over", "The migration is over.")
        if migration.cancel(CANCELLED):
            logger.info("migration.cancelled", migration=str(migration.id))
            desktop.touch(self._unit.clock.now())
            transaction.after_commit(self._wake)

    # --- what the source says -----------------------------------------------------------------

    async def ended(self, delivery: Delivery, event: MigrationEnded) -> None:
        """A reason to look; where the desktop is, both nodes say (decision 10)."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            desktop = await Desktops(transaction.session).lock(event.desktop_id)
            migration = None if desktop is None else desktop.migration
            if desktop is None or migration is None or migration.id != event.migration_id:
                return
            if event.node == migration.source:
                now = self._unit.clock.now()
                migration.note_over(event.problem, now)
                desktop.touch(now)
                transaction.after_commit(self._wake)

    async def progress(self, delivery: Delivery, event: MigrationProgress) -> None:
        """How far it is; telemetry, without an inbox."""
        async with self._unit(delivery.envelope) as transaction:
            await Migrations(transaction.session).note_progress(
                event.migration_id, event.node, event.percent
            )
