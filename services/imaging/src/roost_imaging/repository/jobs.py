"""Queries of jobs: the list, and the queue that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import NotFound
from roost_common.http import PageQuery
from roost_imaging.model import Job
from roost_imaging.repository.pages import Listing, as_id, page
from roost_imaging.states import JobState

_ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)


class Jobs:
    """Jobs, and the queue that they are. Times of leases are the database's."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, job_id: str, *, lock: bool = False) -> Job:
        """By id. Raises `NotFound` (``job.unknown``)."""
        key = as_id(job_id)
        found = None
        if key is not None:
            found = await self._session.get(Job, key, with_for_update=lock)
        if found is None:
            raise NotFound("job.unknown", "There is no job {job}.", job=job_id)
        return found

    def add(self, job: Job) -> None:
        """A new one."""
        self._session.add(job)

    async def next(self) -> Job | None:
        """The oldest that waits or whose worker has died; locked, passing over others' locks."""
        abandoned = sa.and_(
            Job.state == JobState.RUNNING, Job.lease_until < sa.func.clock_timestamp()
        )
        query = (
            sa.select(Job)
            .where(sa.or_(Job.state == JobState.QUEUED, abandoned))
            .order_by(Job.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        return await self._session.scalar(query)

    async def renew(
        self, job_id: UUID, worker: UUID, lease_s: float, percent: float | None = None
    ) -> bool | None:
        """Keep a job and say how far it is; whether it is to be cancelled, None when it is lost."""
        values: dict[str, Any] = {
            "lease_until": sa.func.clock_timestamp() + timedelta(seconds=lease_s)
        }
        if percent is not None:
            values["percent"] = percent
        statement = (
            sa.update(Job)
            .where(Job.id == job_id, Job.worker == worker, Job.state == JobState.RUNNING)
            .values(values)
            .returning(Job.cancel_requested)
        )
        return await self._session.scalar(statement)

    async def held(self, job_id: UUID, worker: UUID) -> Job | None:
        """The job, locked, if this worker still has it."""
        query = (
            sa.select(Job)
            .where(Job.id == job_id, Job.worker == worker, Job.state == JobState.RUNNING)
            .with_for_update()
        )
        return await self._session.scalar(query)

    async def active(self, template_id: UUID) -> int:
        """Jobs on a template that are not finished."""
        query = (
            sa.select(sa.func.count())
            .select_from(Job)
            .where(Job.template_id == template_id, Job.state.in_(_ACTIVE))
        )
        return await self._session.scalar(query) or 0

    async def attempts(self, ids: Iterable[UUID]) -> dict[UUID, int]:
        """The present attempt of those of these jobs that run."""
        query = sa.select(Job.id, Job.attempt).where(
            Job.id.in_(list(ids)), Job.state == JobState.RUNNING
        )
        return dict((await self._session.execute(query)).all())

    async def page(self, paging: PageQuery, state: JobState | None) -> Listing:
        """The newest first."""
        conditions = [] if state is None else [Job.state == state]
        order: list[tuple[Any, Callable[[str], Any]]] = [
            (Job.created_at, datetime.fromisoformat),
            (Job.id, UUID),
        ]
        return await page(self._session, Job, order, paging, *conditions, descending=True)

    async def prune(self, before: datetime) -> None:
        """Forget jobs that ended long ago."""
        await self._session.execute(sa.delete(Job).where(Job.finished_at < before))
