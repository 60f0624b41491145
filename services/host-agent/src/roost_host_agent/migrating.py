"""Moving desktops away: follows each migration from its command to its end, and tells of both.

The command is acknowledged when the migration has been taken up, not when it is over: that takes
minutes. What the agent must not forget meanwhile is in the domain's mark and in libvirt's job, and
libvirtd goes on without the agent; a new run of it finds both and follows them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DomainState
from roost_common.contracts.migration import (
    CancelMigration,
    MigrateDesktop,
    MigrationEnded,
    MigrationProgress,
)
from roost_common.errors import Conflict, Outage, RoostError, Unavailable
from roost_host_agent import metrics
from roost_host_agent.hypervisor.driver import DomainView, not_running, outage
from roost_host_agent.hypervisor.migration import (
    CANCELLED,
    MigratingHypervisor,
    cancelled,
    failed,
    migrating,
)
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer, Publisher
from roost_host_agent.reconciler import Reconciler

logger = log.get_logger(__name__)

REMEMBERED: Final = 1000
"""Migrations whose end is told again when they are asked for again."""
AT_ONCE: Final = 2
"""Two guests share a link well; more of them take longer each and end later all together."""
TICK_S: Final = 1.0
ADOPTED_DEADLINE_S: Final = 300.0
"""A migration that an earlier run of the agent began is given up after this time."""
PUBLISH_RETRY_S: Final = 1.0

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Move:
    """A migration that is not over."""

    migration_id: UUID
    desktop_id: UUID
    boot_id: UUID
    generation: int
    ends_at: float
    """Monotonic; it is given up then."""
    cancelled: bool = False
    percent: float = 0.0


class Migrating:
    """`MigrateDesktop` and `CancelMigration` on the node where the desktop runs."""

    def __init__(
        self,
        node: Node,
        driver: MigratingHypervisor,
        reconciler: Reconciler,
        observer: Observer,
        *,
        publisher: Publisher,
        clock: Clock,
        tick_s: float = TICK_S,
        at_once: int = AT_ONCE,
    ) -> None:
        self._node = node
        self._driver = driver
        self._reconciler = reconciler
        self._observer = observer
        self._publisher = publisher
        self._clock = clock
        self._tick_s = tick_s
        self._at_once = at_once
        self._under_way = 0
        self._moves: dict[UUID, _Move] = {}
        self._ended: OrderedDict[UUID, MigrationEnded] = OrderedDict()
        self._cancelled: OrderedDict[UUID, None] = OrderedDict()
        self._group: asyncio.TaskGroup | None = None

    @property
    def ready(self) -> bool:
        """Whether it is known what an earlier run of the agent left under way."""
        return self._group is not None

    async def migrate(self, command: MigrateDesktop) -> None:
        """Take a migration up. Under way: nothing. Over: its end is told again.

        Raises `Outage` until `ready`.
        """
        if command.agent_id not in {None, self._node.agent_id}:
            logger.info("migration.for-another-run", **_facts(command))
            return
        if self._group is None:
            raise outage()
        if (ended := self._ended.get(command.migration_id)) is not None:
            await self._publisher.publish(ended)
            return
        if command.migration_id in self._moves:
            return
        move = _Move(
            command.migration_id,
            command.desktop_id,
            command.boot_id,
            command.generation,
            self._clock.monotonic() + command.deadline_s,
            cancelled=command.migration_id in self._cancelled,
        )
        taken = any(other.desktop_id == command.desktop_id for other in self._moves.values())
        self._moves[command.migration_id] = move
        if taken:
            await self._end(move, migrating().problem)
            return
        logger.info("migration.began", target=command.target_node, **_facts(command))
        self._group.create_task(self._run(move, command))

    async def cancel(self, command: CancelMigration) -> None:
        """Give one up. One that is over, or not known yet, is remembered as not wanted."""
        _remember(self._cancelled, command.migration_id, None)
        move = self._moves.get(command.migration_id)
        if move is not None:
            move.cancelled = True
            await self._driver.cancel_migration(move.desktop_id)

    async def run(self) -> None:
        """Follow migrations until cancelled, the ones of an earlier run of the agent first.

        When it is cancelled they go on without it.
        """
        views = await self._first_look()
        try:
            async with asyncio.TaskGroup() as group:
                for view in views:
                    if (move := self._adopted(view)) is not None:
                        group.create_task(self._run(move, None))
                self._group = group
                await asyncio.Event().wait()
        finally:
            self._group = None

    # --- one migration --------------------------------------------------------------------------

    async def _run(self, move: _Move, command: MigrateDesktop | None) -> None:
        """``command`` None: it has begun already, and is only followed."""
        began = self._clock.monotonic()
        self._observer.note_leaving(move.desktop_id, move.generation)
        try:
            problem = await self._attempt(move, command)
            if problem is None:
                self._observer.note_removed(move.desktop_id, move.generation)
        finally:
            self._observer.note_stays(move.desktop_id)
        metrics.MIGRATION_SECONDS.observe(self._clock.monotonic() - began)
        await self._end(move, problem)

    async def _attempt(self, move: _Move, command: MigrateDesktop | None) -> Problem | None:
        """Why it was not moved; None: it was."""
        try:
            if command is None:
                await self._follow(move)
            else:
                await self._own(move, command)
        except RoostError as error:
            if error.code == CANCELLED and not move.cancelled and self._overdue(move):
                return _too_late().problem
            return error.problem
        return None

    async def _own(self, move: _Move, command: MigrateDesktop) -> None:
        await self._slot(move)
        self._under_way += 1
        try:
            await self._known(command)
            job = asyncio.create_task(self._driver.migrate(command))
            try:
                while not (await asyncio.wait({job}, timeout=self._tick_s))[0]:
                    # Whether libvirtd is there, and what came of it, is for the job to say.
                    with suppress(RoostError):
                        await self._tick(move)
                job.result()
            finally:
                job.cancel()
        except Outage:
            # libvirtd is away, and has either cancelled it or goes on with it when it is back.
            await self._follow(move)
        finally:
            self._under_way -= 1

    async def _slot(self, move: _Move) -> None:
        """Wait for a free one, as long as the migration is wanted."""
        while True:
            if move.cancelled:
                raise cancelled()
            if self._overdue(move):
                raise _too_late()
            if self._under_way < self._at_once:
                return
            await asyncio.sleep(self._tick_s)

    async def _known(self, command: MigrateDesktop) -> None:
        """A desktop that is not here may have gone by this very migration, under an earlier run
        of the agent. Nobody here knows, and the answer says so."""
        views = await self._driver.domains(command.desktop_id)
        if not views:
            raise Conflict(
                "desktop.migration-unknown",
                "The desktop is not on this host; whether it was moved is for the target to say.",
            )
        if views[0].mark.boot_id != command.boot_id or views[0].state is DomainState.SHUTOFF:
            raise not_running()

    async def _follow(self, move: _Move) -> None:
        """Until libvirt says that it does not leave any more; then where it is says what came of
        it: libvirt undefines it here only when it runs there."""
        while True:
            try:
                leaving = await self._tick(move)
                views = await self._driver.domains(move.desktop_id)
            except RoostError as error:
                if not error.retryable:
                    raise
                leaving, views = True, ()
            if not leaving:
                break
            await asyncio.sleep(self._tick_s)
        if not views:
            return
        if move.cancelled:
            raise cancelled()
        if views[0].mark.boot_id != move.boot_id or views[0].state is DomainState.SHUTOFF:
            raise not_running()
        raise failed("The migration was interrupted; the desktop runs where it was.")

    async def _tick(self, move: _Move) -> bool:
        """Tell how far it is, end it when its time is over; whether it is under way."""
        if move.cancelled or self._overdue(move):
            await self._driver.cancel_migration(move.desktop_id)
        percent = await self._driver.migration_percent(move.desktop_id)
        if percent is None:
            return False
        # A guest that writes makes it fall again; a person wants to see it grow.
        move.percent = max(move.percent, min(percent, 100.0))
        with suppress(Unavailable):
            await self._publisher.publish(
                MigrationProgress(
                    migration_id=move.migration_id,
                    desktop_id=move.desktop_id,
                    node=self._node.name,
                    percent=move.percent,
                ),
                deadline_s=self._tick_s,
            )
        return True

    async def _end(self, move: _Move, problem: Problem | None) -> None:
        ended = MigrationEnded(
            migration_id=move.migration_id,
            desktop_id=move.desktop_id,
            node=self._node.name,
            problem=problem,
        )
        code = "moved" if problem is None else problem.code
        metrics.MIGRATIONS.labels(code).inc()
        logger.info(
            "migration.ended",
            migration=str(move.migration_id),
            desktop=str(move.desktop_id),
            outcome=code,
            detail="" if problem is None else problem.detail,
        )
        # Where it is now, before the word that it is over.
        self._reconciler.changed(move.desktop_id)
        _remember(self._ended, move.migration_id, ended)
        del self._moves[move.migration_id]
        while True:
            with suppress(Unavailable):
                await self._publisher.publish(ended)
                return
            await asyncio.sleep(PUBLISH_RETRY_S)

    # --- an earlier run's -----------------------------------------------------------------------

    async def _first_look(self) -> tuple[DomainView, ...]:
        while True:
            try:
                return await self._driver.domains()
            except RoostError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(self._tick_s)

    def _adopted(self, view: DomainView) -> _Move | None:
        """A migration that has begun and is not known to be over.

        One that ended while no agent looked is told of again and again by every new run, as long
        as the guest runs here: the mark does not say that it was told.
        """
        mark = view.mark
        if mark.migration is None:
            return None
        move = _Move(
            mark.migration,
            mark.desktop_id,
            mark.boot_id,
            mark.generation,
            self._clock.monotonic() + ADOPTED_DEADLINE_S,
        )
        self._moves[move.migration_id] = move
        return move

    def _overdue(self, move: _Move) -> bool:
        return self._clock.monotonic() >= move.ends_at


def _too_late() -> Conflict:
    return Conflict(
        "desktop.migration-deadline",
        "The desktop could not be moved in the time it was given; it runs where it was.",
    )


def _remember(memory: OrderedDict[UUID, T], key: UUID, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)


def _facts(command: MigrateDesktop) -> dict[str, str]:
    return {"migration": str(command.migration_id), "desktop": str(command.desktop_id)}
