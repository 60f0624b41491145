"""The job that makes a template version of an image: judge, convert, publish.

A job starts from scratch whenever it starts: what an earlier attempt left is removed first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from roost_common.contracts.template import JobFinished
from roost_common.errors import Conflict, Invalid, NotFound, Unavailable
from roost_common.outbox import UnitOfWork
from roost_imaging import metrics, source_file, template_files
from roost_imaging.image_format import Format
from roost_imaging.image_inspection import Inspected, Inspection
from roost_imaging.lanes import Lane, Lanes
from roost_imaging.layout import Layout
from roost_imaging.model import Job
from roost_imaging.qemu_img import OpenImage, QemuImg
from roost_imaging.repository import Jobs, Templates
from roost_imaging.states import JobState
from roost_imaging.template_facts import created

Report = Callable[[float], None]
"""Is told how many percent of a job are done."""

CHECKED, CONVERTED, HASHED = 5.0, 90.0, 99.0
"""Percent of a job when a step is over; the conversion writes, and takes the longest."""


@dataclass(frozen=True)
class Held:
    """A job as its worker holds it: what it asks for, and where its result goes."""

    id: UUID
    worker: UUID
    attempt: int
    kind: str
    correlation: str
    template_id: UUID
    version: int
    path: str
    format: str | None
    sha256: str | None
    layout: Layout | None
    """None when the template is gone."""

    @property
    def part(self) -> Path:
        """The result in the making."""
        return self._layout.version_part(self.template_id, self.version, self.id, self.attempt)

    @property
    def final(self) -> Path:
        """The result."""
        return self._layout.version_file(self.template_id, self.version)

    @property
    def _layout(self) -> Layout:
        if self.layout is None:
            raise NotFound("template.unknown", "The job's template is gone.")
        return self.layout

    @classmethod
    def of(cls, job: Job, worker: UUID, layout: Layout | None) -> Held:
        """From its row."""
        return cls(
            id=job.id,
            worker=worker,
            attempt=job.attempt,
            kind=job.kind,
            correlation=job.correlation,
            template_id=job.template_id,
            version=job.version,
            path=job.request["path"],
            format=job.request["format"],
            sha256=job.request["sha256"],
            layout=layout,
        )


@dataclass(frozen=True)
class _Converted:
    """A finished conversion that nobody sees yet."""

    virtual_bytes: int
    sha256: str


class ImportJob:
    """Carries out imports."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        inspection: Inspection,
        qemu_img: QemuImg,
        lanes: Lanes,
        *,
        reserve: int,
    ) -> None:
        self._unit = unit_of_work
        self._inspection = inspection
        self._qemu = qemu_img
        self._lanes = lanes
        self._reserve = reserve

    async def run(self, held: Held, report: Report) -> None:
        """Make the version, and end the job as done in the same transaction.

        Raises a `RoostError` that says why it cannot be made; cancelling stops it at once. What it
        leaves then, `discard` removes.
        """
        if held.layout is None:
            raise NotFound("template.unknown", "The job's template is gone.")
        lane = self._lanes.of(held.layout.storage_id)
        async with self._inspection.of(held.path, held.format) as inspected:
            await self._judge(inspected, held)
            needed = await self._qemu.measure(inspected.image)
            await lane.run(
                template_files.prepare, held.layout, held.part, held.final, needed, self._reserve
            )
            report(CHECKED)
            await self._qemu.convert(
                inspected.image, held.part, _between(report, CHECKED, CONVERTED)
            )
            source_file.require_unchanged(inspected.source, inspected.fingerprint)
        converted = await self._verify(held, held.layout, inspected, lane, report)
        await self._publish(held, held.layout, converted, lane)

    async def discard(self, held: Held) -> None:
        """Remove every file of it. Raises `Unavailable` when the storage is away."""
        if held.layout is not None:
            await self._lanes.of(held.layout.storage_id).run(
                template_files.discard, held.layout, held.template_id, held.version, held.id
            )

    async def _judge(self, inspected: Inspected, held: Held) -> None:
        """The expensive half of the judgement."""
        await self._qemu.check(inspected.image)
        if held.sha256 is None:
            return
        with _Interruptible() as going:
            found = await self._lanes.imports.run_long(
                source_file.sha256, inspected.source.fd, going
            )
        if found != held.sha256.lower():
            raise Invalid("image.checksum-mismatch", "The file's SHA-256 is {found}.", found=found)

    async def _verify(
        self, held: Held, layout: Layout, inspected: Inspected, lane: Lane, report: Report
    ) -> _Converted:
        """The result must be what was judged, and alone; its checksum is kept."""
        # A large conversion is still in the page cache: making it durable takes its time.
        fd = await lane.run_long(template_files.open_part, layout, held.part)
        try:
            info = await self._qemu.info(OpenImage(fd, Format.QCOW2))
            alone = info.backing_file is None and info.data_file is None
            if not alone or info.virtual_bytes != inspected.virtual_bytes:
                raise Invalid("image.corrupt", "The conversion is not what the image was.")
            size = max(1, os.fstat(fd).st_size)
            with _Interruptible(_between(report, CONVERTED, HASHED), size) as going:
                digest = await lane.run_long(source_file.sha256, fd, going)
        finally:
            os.close(fd)
        return _Converted(info.virtual_bytes, digest)

    async def _publish(self, held: Held, layout: Layout, converted: _Converted, lane: Lane) -> None:
        """File and rows appear together, while the job's row is locked: only its holder may."""
        async with self._unit() as transaction:
            jobs, templates = Jobs(transaction.session), Templates(transaction.session)
            job = await jobs.held(held.id, held.worker)
            if job is None or job.cancel_requested:
                raise Unavailable("job.lost", "The job is not this worker's any more.")
            template = await templates.find(held.template_id, lock=True)
            version = await templates.version(held.template_id, held.version)
            if template is None or version is None:
                raise NotFound("template.unknown", "The job's template is gone.")
            used = await lane.run(template_files.publish, layout, held.part, held.final)
            if used is None:
                raise Conflict("template.version-exists", "This version is there already.")
            version.mark_ready(
                virtual_bytes=converted.virtual_bytes, used_bytes=used, sha256=converted.sha256
            )
            template.mark_ready()
            job.finish(JobState.DONE, self._unit.clock.now())
            transaction.emit(created(template, version))
            transaction.emit(
                JobFinished(job_id=job.id, job_kind=job.kind, state=JobState.DONE.value)
            )
        metrics.JOBS_FINISHED.labels(held.kind, JobState.DONE.value).inc()


class _Interruptible:
    """Lets a thread that reads a whole file know when nobody waits for it any more."""

    def __init__(self, report: Report | None = None, size: int = 1) -> None:
        self._report = report
        self._size = size
        self._goes_on = True

    def __enter__(self) -> Callable[[int], bool]:
        return self._told

    def __exit__(self, *_: object) -> None:
        self._goes_on = False

    def _told(self, read: int) -> bool:
        if self._report is not None:
            self._report(min(100.0, 100.0 * read / self._size))
        return self._goes_on


def _between(report: Report, low: float, high: float) -> Report:
    def scaled(percent: float) -> None:
        report(low + (high - low) * percent / 100.0)

    return scaled
