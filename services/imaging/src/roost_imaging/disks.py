"""Disks: what a `disk.ensure.v1` asks for is made true, and answered.

The rows are changed in two short transactions with the work on the storage between them, so that
a slow storage holds no database connection. The first records the wish (from then on the template
cannot be deleted, and an older wish does nothing), the second the result, if the wish still
stands. A process that dies in between is no harm: the message comes again, and nothing that is
there is made twice.

A disk whose row says ready and whose file has vanished is refused with ``storage.file-missing``,
not made anew: an empty overlay in place of a user's disk would look like success. The next
generation (a re-image) is a new file, and is made.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from roost_common import log
from roost_common.contracts.base import Delivery, Problem
from roost_common.contracts.disk import DiskDeleted, DiskReady, DiskRefused, EnsureDisk
from roost_common.errors import Conflict, NotFound, Outage, RoostError, Unavailable
from roost_common.outbox import Transaction, UnitOfWork
from roost_imaging import metrics, overlay_files, storage_files
from roost_imaging.disk_base import Base, base_of, layout_of
from roost_imaging.disk_plan import DiskFacts, Step, decide
from roost_imaging.lanes import Lanes
from roost_imaging.layout import Layout
from roost_imaging.model import Disk
from roost_imaging.qemu_img import QemuImg
from roost_imaging.repository import Disks, Templates
from roost_imaging.states import DiskState

logger = log.get_logger(__name__)


@dataclass(frozen=True)
class _Task:
    """What the first transaction has found."""

    step: Step
    base: Base | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class _Result:
    """What came of it on the storage."""

    error: RoostError | None = None
    used_bytes: int = 0


class DiskKeeper:
    """Makes wishes for disks true."""

    def __init__(
        self, unit_of_work: UnitOfWork, qemu_img: QemuImg, lanes: Lanes, *, reserve: int
    ) -> None:
        self._unit = unit_of_work
        self._qemu = qemu_img
        self._lanes = lanes
        self._reserve = reserve

    async def ensure(self, wish: EnsureDisk, delivery: Delivery) -> None:
        """Handle one message. Raises only what the bus is to try again, such as `Outage`."""
        async with self._unit(delivery.envelope) as transaction:
            task = await self._record(transaction, wish)
        if task.step is Step.DROP:
            logger.info("disk.wish-overtaken", disk=str(wish.disk_id), generation=wish.generation)
            metrics.DISKS_ENSURED.labels("overtaken").inc()
            return
        result = await self._carry_out(wish, task)
        async with self._unit.handling(delivery) as transaction_or_none:
            if transaction_or_none is None:
                return
            stands = await self._answer(transaction_or_none, wish, task, result)
        if not stands:
            await self._discard(wish, task)

    async def finish_deletion(self, disk_id: UUID) -> None:
        """Go on with a deletion that its storage or a crash has interrupted."""
        async with self._unit() as transaction:
            disk = await Disks(transaction.session).lock(disk_id)
            if disk is None or disk.state is not DiskState.DELETING:
                return
            layout = await layout_of(transaction, disk)
        if layout is not None:
            await self._lanes.of(layout.storage_id).run(overlay_files.remove, layout, disk_id)
        async with self._unit() as transaction:
            disk = await Disks(transaction.session).lock(disk_id)
            if disk is not None and disk.state is DiskState.DELETING:
                disk.mark_deleted(self._unit.clock.now())
                transaction.emit(DiskDeleted(disk_id=disk_id, generation=disk.generation))

    # --- the wish -----------------------------------------------------------------------------

    async def _record(self, transaction: Transaction, wish: EnsureDisk) -> _Task:
        disks = Disks(transaction.session)
        disk = await disks.lock(wish.disk_id)
        step = decide(wish, None if disk is None else _facts(disk))
        if step is Step.MAKE:
            return await self._record_make(transaction, wish, disk)
        if step is Step.REMOVE:
            if disk is None:
                disk = self._new_disk(wish)
                disks.add(disk)
            layout = await layout_of(transaction, disk)
            disk.mark_deleting(wish.generation)
            return _Task(step, layout=layout)
        if step is Step.CONFIRM and disk is not None:
            return _Task(step, base=await base_of(transaction, disk))
        return _Task(step)

    async def _record_make(
        self, transaction: Transaction, wish: EnsureDisk, disk: Disk | None
    ) -> _Task:
        usable = await Templates(transaction.session).usable(
            wish.template_id, wish.template_version
        )
        if usable is None:
            return _Task(Step.MAKE)
        template, version = usable
        if disk is None:
            disk = self._new_disk(wish)
            Disks(transaction.session).add(disk)
        disk.want(version, template.storage_id, wish.generation)
        return _Task(Step.MAKE, base=await base_of(transaction, disk))

    def _new_disk(self, wish: EnsureDisk) -> Disk:
        return Disk(
            id=wish.disk_id,
            generation=wish.generation,
            state=DiskState.PENDING,
            virtual_bytes=0,
            used_bytes=0,
            created_at=self._unit.clock.now(),
        )

    # --- the storage --------------------------------------------------------------------------

    async def _carry_out(self, wish: EnsureDisk, task: _Task) -> _Result:
        try:
            match task.step:
                case Step.MAKE:
                    return _Result(used_bytes=await self._make(wish, task.base))
                case Step.CONFIRM if task.base is not None:
                    await self._confirm(wish, task.base.layout)
                case Step.REMOVE if task.layout is not None:
                    lane = self._lanes.of(task.layout.storage_id)
                    await lane.run(overlay_files.remove, task.layout, wish.disk_id)
                case Step.REFUSE_BASE:
                    raise Conflict(
                        "disk.generation-taken",
                        "Generation {generation} of this disk lies on another template version.",
                        generation=wish.generation,
                    )
                case Step.REFUSE_BUSY:
                    raise Unavailable("disk.busy", "The disk is just being deleted.")
                case _:
                    pass
        except Outage:
            raise
        except RoostError as error:
            return _Result(error=error)
        return _Result()

    async def _make(self, wish: EnsureDisk, base: Base | None) -> int:
        if base is None:
            raise Unavailable(
                "template.unknown",
                "There is no version {version} of template {template} to make a disk of.",
                version=wish.template_version,
                template=str(wish.template_id),
            )
        lane, layout = self._lanes.of(base.layout.storage_id), base.layout
        with metrics.OVERLAY_SECONDS.time():
            part: Path | None = None
            if await lane.run(
                overlay_files.prepare,
                layout,
                wish.disk_id,
                wish.generation,
                base.path,
                self._reserve,
            ):
                part = layout.disk_part(wish.disk_id, wish.generation, uuid4())
                try:
                    await self._qemu.create_overlay(part, base.path, base.virtual_bytes)
                except BaseException:
                    with contextlib.suppress(RoostError):
                        await lane.run(storage_files.remove_file, part)
                    raise
            return await lane.run(overlay_files.finish, layout, wish.disk_id, wish.generation, part)

    async def _confirm(self, wish: EnsureDisk, layout: Layout) -> None:
        lane = self._lanes.of(layout.storage_id)
        if not await lane.run(overlay_files.exists, layout, wish.disk_id, wish.generation):
            raise NotFound(
                "storage.file-missing",
                "The file of generation {generation} is gone from its storage.",
                generation=wish.generation,
            )

    async def _discard(self, wish: EnsureDisk, task: _Task) -> None:
        """A newer wish was recorded while this one was carried out: what it made goes."""
        if task.step is not Step.MAKE or task.base is None:
            return
        async with self._unit() as transaction:
            disk = await Disks(transaction.session).find(wish.disk_id)
            gone = disk is not None and disk.state in (DiskState.DELETING, DiskState.DELETED)
        layout = task.base.layout
        await self._lanes.of(layout.storage_id).run(
            overlay_files.discard, layout, wish.disk_id, wish.generation, whole_disk=gone
        )

    # --- the answer ---------------------------------------------------------------------------

    async def _answer(
        self, transaction: Transaction, wish: EnsureDisk, task: _Task, result: _Result
    ) -> bool:
        """Record the result and say it; false when the wish has been overtaken meanwhile."""
        disk = await Disks(transaction.session).lock(wish.disk_id)
        overtaken = disk is not None and (
            disk.generation > wish.generation
            or (wish.present and disk.state in (DiskState.DELETING, DiskState.DELETED))
        )
        if overtaken and task.step is not Step.REFUSE_BUSY:
            return False
        if result.error is not None:
            self._refuse(transaction, wish, result.error)
        elif not wish.present:
            if disk is not None and disk.state is DiskState.DELETING:
                disk.mark_deleted(self._unit.clock.now())
            self._say(transaction, wish, "deleted")
        elif disk is not None and task.base is not None:
            if disk.state is DiskState.PENDING:
                disk.mark_ready(result.used_bytes, self._unit.clock.now())
            self._say(transaction, wish, "ready", task.base)
        return True

    @staticmethod
    def _say(
        transaction: Transaction, wish: EnsureDisk, outcome: str, base: Base | None = None
    ) -> None:
        metrics.DISKS_ENSURED.labels(outcome).inc()
        if base is None:
            transaction.emit(DiskDeleted(disk_id=wish.disk_id, generation=wish.generation))
            return
        transaction.emit(
            DiskReady(
                disk_id=wish.disk_id,
                generation=wish.generation,
                path=str(base.layout.disk_file(wish.disk_id, wish.generation)),
                virtual_bytes=base.virtual_bytes,
                template_id=base.template_id,
                template_version=base.version,
            )
        )

    @staticmethod
    def _refuse(transaction: Transaction, wish: EnsureDisk, error: RoostError) -> None:
        metrics.DISKS_ENSURED.labels("refused").inc()
        logger.warning("disk.refused", disk=str(wish.disk_id), code=error.code)
        transaction.emit(
            DiskRefused(
                disk_id=wish.disk_id,
                generation=wish.generation,
                problem=Problem(code=error.code, detail=error.detail),
                retryable=error.retryable,
            )
        )


def _facts(disk: Disk) -> DiskFacts:
    return DiskFacts(disk.generation, disk.state, disk.template_id, disk.template_version)
