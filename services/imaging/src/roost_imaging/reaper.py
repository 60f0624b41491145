"""The loop that puts storage and rows in agreement: unfinished deletions, leftovers, sizes.

Only one copy of the service does it at a time. It removes what it knows to be nobody's: a version
in the making whose job does not run, an overlay of a generation that has been left behind. What
it does not know at all it leaves alone: the database may be older than the storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.errors import RoostError
from roost_common.outbox import UnitOfWork
from roost_imaging import metrics, overlay_files, template_files
from roost_imaging.disks import DiskKeeper
from roost_imaging.lanes import Lanes
from roost_imaging.layout import Layout
from roost_imaging.model import Disk
from roost_imaging.overlay_files import Survey
from roost_imaging.repository import Disks, Jobs, StorageDomains, Templates
from roost_imaging.states import DiskState, StorageState
from roost_imaging.templates import TemplateKeeper

logger = log.get_logger(__name__)

DELETIONS_PER_PASS: Final = 100
JOBS_KEPT: Final = timedelta(days=90)


class Reaper:
    """One pass at a time."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        lanes: Lanes,
        disks: DiskKeeper,
        templates: TemplateKeeper,
        *,
        recount_age_s: float,
        recount_batch: int,
    ) -> None:
        self._unit = unit_of_work
        self._lanes = lanes
        self._disks = disks
        self._templates = templates
        self._recount_age = timedelta(seconds=recount_age_s)
        self._batch = recount_batch

    async def pass_once(self) -> bool:
        """Everything once; true when more overlays wait to be measured."""
        layouts = await self._layouts()
        await self._finish_deletions()
        # One domain that hangs holds up nobody else's leftovers.
        await asyncio.gather(*(self._remove_parts(layout) for layout in layouts.values()))
        more = await self._recount(layouts)
        async with self._unit() as transaction:
            await Jobs(transaction.session).prune(self._unit.clock.now() - JOBS_KEPT)
        return more

    async def _layouts(self) -> dict[UUID, Layout]:
        async with self._unit() as transaction:
            domains = await StorageDomains(transaction.session).all()
        # What is away would come first for ever, and keep the others from being measured.
        return {
            domain.id: domain.layout
            for domain in domains
            if domain.state is not StorageState.UNAVAILABLE
        }

    async def _finish_deletions(self) -> None:
        async with self._unit() as transaction:
            disks = await Disks(transaction.session).deleting(DELETIONS_PER_PASS)
            templates = await Templates(transaction.session).deleting()
        for disk in disks:
            try:
                await self._disks.finish_deletion(disk.id)
            except RoostError as error:
                self._waits("disk", disk.id, error)
        for template in templates:
            try:
                await self._templates.finish_deletion(template.id)
            except RoostError as error:
                self._waits("template", template.id, error)

    async def _remove_parts(self, layout: Layout) -> None:
        """Versions in the making that no running job makes."""
        lane = self._lanes.of(layout.storage_id)
        try:
            # Listed before the jobs are asked: a part that a job begins meanwhile is not listed.
            parts = await lane.run(template_files.parts, layout)
            async with self._unit() as transaction:
                attempts = await Jobs(transaction.session).attempts(
                    {part.job_id for _, part in parts}
                )
            for path, part in parts:
                if attempts.get(part.job_id) != part.attempt:
                    await lane.run(template_files.remove_part, layout, path)
                    metrics.LEFTOVERS_REMOVED.inc()
                    logger.info("leftover.removed", path=str(path))
        except RoostError as error:
            self._waits("storage", layout.storage_id, error)

    async def _recount(self, layouts: dict[UUID, Layout]) -> bool:
        before = self._unit.clock.now() - self._recount_age
        async with self._unit() as transaction:
            disks = await Disks(transaction.session).to_count(layouts, before, self._batch)
        by_domain: dict[UUID, list[Disk]] = {}
        for disk in disks:
            if disk.storage_id is not None:
                by_domain.setdefault(disk.storage_id, []).append(disk)
        counted = await asyncio.gather(
            *(self._survey(layouts[key], chosen) for key, chosen in by_domain.items())
        )
        return len(disks) == self._batch and any(counted)

    async def _survey(self, layout: Layout, disks: Sequence[Disk]) -> bool:
        wanted = [(disk.id, disk.generation) for disk in disks]
        ready = {disk.id for disk in disks if disk.state is DiskState.READY}
        found: list[Survey] = []
        try:
            found = await self._lanes.of(layout.storage_id).run(
                overlay_files.survey, layout, wanted
            )
        except RoostError as error:
            self._waits("storage", layout.storage_id, error)
        async with self._unit() as transaction:
            rows = Disks(transaction.session)
            for one in found:
                await rows.counted(
                    one.disk_id, one.generation, one.used_bytes, self._unit.clock.now()
                )
        for one in found:
            metrics.LEFTOVERS_REMOVED.inc(one.removed)
            if one.used_bytes is None and one.disk_id in ready:
                metrics.OVERLAYS_MISSING.inc()
                logger.error("overlay.missing", disk=str(one.disk_id), generation=one.generation)
        return bool(found)

    @staticmethod
    def _waits(kind: str, key: UUID, error: RoostError) -> None:
        logger.debug("reaper.waits", kind=kind, id=str(key), code=error.code)
