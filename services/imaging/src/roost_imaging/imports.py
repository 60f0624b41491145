"""Accepting an import: everything cheap is checked now, the rest is a job's."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

from roost_common import idempotency, log
from roost_common.contracts.spec import OsFamily
from roost_common.errors import Conflict, Invalid
from roost_common.outbox import Transaction, UnitOfWork
from roost_imaging import storage_files
from roost_imaging.image_inspection import Inspection
from roost_imaging.lanes import Lanes
from roost_imaging.model import Job, StorageDomain, Template, TemplateVersion
from roost_imaging.repository import Jobs, StorageDomains, Templates
from roost_imaging.schemas import NewTemplate, NewVersion, Source
from roost_imaging.states import JobState, TemplateState, VersionState
from roost_imaging.wakers import Wake

KIND: Final = "template.import"


class _VersionOf(NewVersion):
    """A wish for a version with the template it is for: both make a request the same again."""

    template: str


class Imports:
    """Takes wishes for templates and versions, and queues the jobs that make them."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        inspection: Inspection,
        lanes: Lanes,
        wake_workers: Wake,
        *,
        reserve: int,
    ) -> None:
        self._unit = unit_of_work
        self._inspection = inspection
        self._lanes = lanes
        self._wake_workers = wake_workers
        self._reserve = reserve

    async def new_template(self, wish: NewTemplate, actor: str, key: str | None) -> Job:
        """A template whose first version a job imports.

        Raises `Invalid` with the reason to refuse the image, `Conflict` (``template.name-taken``),
        `NotFound` (``storage.unknown``), `NoCapacity`, `Unavailable`.
        """
        job_id = uuid4()
        async with self._unit() as transaction:
            earlier = await self._claim(transaction, wish, actor, key, job_id)
            if earlier is not None:
                return earlier
            domain = await self._domain(transaction, wish.storage)
            await self._inspect(wish.source, domain)
            template = await self._add_template(transaction, wish, domain)
            return await self._queue(transaction, job_id, template, wish.source, actor)

    async def new_version(
        self, template_key: str, wish: NewVersion, actor: str, key: str | None
    ) -> Job:
        """A further version of a template that is ready; errors as above, ``template.busy``."""
        job_id = uuid4()
        whole = _VersionOf(template=template_key, source=wish.source)
        async with self._unit() as transaction:
            earlier = await self._claim(transaction, whole, actor, key, job_id)
            if earlier is not None:
                return earlier
            templates = Templates(transaction.session)
            template = await templates.get(template_key)
            template.require_ready()
            domain = await StorageDomains(transaction.session).get(str(template.storage_id))
            await self._inspect(wish.source, domain)
            template = await templates.get(str(template.id), lock=True)
            template.require_ready()
            return await self._queue(transaction, job_id, template, wish.source, actor)

    async def _claim(
        self,
        transaction: Transaction,
        wish: NewTemplate | NewVersion,
        actor: str,
        key: str | None,
        job_id: UUID,
    ) -> Job | None:
        earlier = await idempotency.claim(
            transaction,
            actor=actor,
            key=key,
            request=wish,
            resource_id=job_id,
            now=self._unit.clock.now(),
        )
        return None if earlier is None else await Jobs(transaction.session).get(str(earlier))

    @staticmethod
    async def _domain(transaction: Transaction, key: str | None) -> StorageDomain:
        domains = StorageDomains(transaction.session)
        domain = await (domains.first() if key is None else domains.get(key))
        if domain is None:
            raise Conflict("storage.none", "There is no storage domain yet.")
        return domain

    async def _inspect(self, source: Source, domain: StorageDomain) -> None:
        path = _path_of(source)
        async with self._inspection.of(path, source.format):
            layout = domain.layout
            # What it will need exactly is measured by the job; a full domain is told at once.
            await self._lanes.of(domain.id).run(
                storage_files.require_free, layout, 0, self._reserve
            )

    async def _add_template(
        self, transaction: Transaction, wish: NewTemplate, domain: StorageDomain
    ) -> Template:
        template = Template(
            id=uuid4(),
            name=wish.name,
            os=OsFamily(wish.os),
            description=wish.description,
            storage_id=domain.id,
            state=TemplateState.IMPORTING,
            next_version=1,
            created_at=self._unit.clock.now(),
        )
        if not await Templates(transaction.session).add(template):
            raise Conflict(
                "template.name-taken", "There is a template {template} already.", template=wish.name
            )
        return template

    async def _queue(
        self, transaction: Transaction, job_id: UUID, template: Template, source: Source, actor: str
    ) -> Job:
        now = self._unit.clock.now()
        version = TemplateVersion(
            template_id=template.id,
            version=template.take_version(),
            state=VersionState.IMPORTING,
            virtual_bytes=0,
            used_bytes=0,
            sha256=None,
            created_at=now,
        )
        job = Job(
            id=job_id,
            kind=KIND,
            state=JobState.QUEUED,
            percent=0.0,
            request=source.model_dump(include={"path", "format", "sha256"}),
            template_id=template.id,
            template_name=template.name,
            version=version.version,
            cancel_requested=False,
            attempt=0,
            created_by=actor,
            correlation_id=log.current("correlation_id"),
            created_at=now,
        )
        transaction.session.add(version)
        Jobs(transaction.session).add(job)
        await transaction.session.flush()
        transaction.after_commit(self._wake_workers)
        return job


def _path_of(source: Source) -> str:
    given = [kind for kind in ("path", "upload", "desktop") if getattr(source, kind) is not None]
    if given == ["path"] and source.path is not None:
        return source.path
    if len(given) == 1:
        raise Invalid(
            "template.source-unsupported",
            "Images can be imported from a path only, not from {source}.",
            source=given[0],
        )
    raise Invalid("template.source-invalid", "A source names exactly one place: its path.")
