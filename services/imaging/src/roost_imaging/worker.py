"""A worker: takes jobs one by one, keeps each alive while it works on it, and ends it.

A job belongs to the worker whose id its row bears, as long as that worker renews the lease in the
row. A worker that dies is noticed by its lease, and the job starts anew elsewhere; one that only
was away finds that the row is no longer its own and leaves without touching anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import uuid4

from roost_common import log
from roost_common.errors import Outage, RoostError
from roost_common.outbox import Transaction, UnitOfWork
from roost_imaging.import_job import Held, ImportJob
from roost_imaging.jobs import end_without_result
from roost_imaging.layout import Layout
from roost_imaging.model import Job
from roost_imaging.repository import Jobs, StorageDomains, Templates
from roost_imaging.states import JobState

logger = log.get_logger(__name__)

BEAT_S: Final = 0.5
"""How often a worker renews its lease, says how far it is, and looks whether to stop."""


class _Stop(StrEnum):
    """Why a worker stops before the work is done."""

    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass
class _Told:
    """How far the work is."""

    percent: float = 0.0

    def __call__(self, percent: float) -> None:
        self.percent = max(self.percent, percent)


class Worker:
    """Works on one job at a time."""

    def __init__(
        self, unit_of_work: UnitOfWork, imports: ImportJob, *, lease_s: float, attempts: int
    ) -> None:
        self.id = uuid4()
        self._unit = unit_of_work
        self._imports = imports
        self._lease_s = lease_s
        self._attempts = attempts

    async def step(self) -> bool:
        """Take the next job and carry it through; false when there is none."""
        async with self._unit() as transaction:
            job = await Jobs(transaction.session).next()
            if job is None:
                return False
            job.take(self.id, self._unit.clock.now())
            await transaction.session.flush()
            await Jobs(transaction.session).renew(job.id, self.id, self._lease_s)
            held = Held.of(job, self.id, await _layout_of(transaction, job))
            cancelled = job.cancel_requested
        with log.bound_contextvars(
            job=str(held.id), attempt=held.attempt, correlation_id=held.correlation
        ):
            if cancelled:
                await self._end(held, JobState.CANCELLED)
            elif held.attempt > self._attempts:
                await self._end(
                    held,
                    JobState.FAILED,
                    RoostError(
                        "job.attempts-exhausted", "Its workers died {n} times.", n=self._attempts
                    ),
                )
            else:
                logger.info("job.started", kind=held.kind)
                await self._carry_through(held)
        return True

    async def _carry_through(self, held: Held) -> None:
        told = _Told()
        work = asyncio.create_task(self._imports.run(held, told))
        beat = asyncio.create_task(self._beat(held, told))
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # This process stops in good order: another one, or the next, starts the job anew.
            await _stopped(work, beat)
            await self._give_back(held)
            raise
        if work.done():
            await _stopped(beat)
            await self._conclude(held, work.exception())
            return
        await _stopped(work)
        stop = beat.result()
        logger.warning("job.stopped", reason=stop.value)
        if stop is _Stop.CANCELLED:
            await self._end(held, JobState.CANCELLED)

    async def _beat(self, held: Held, told: _Told) -> _Stop:
        """Keep the job until it is to be stopped."""
        clock = self._unit.clock
        kept_at = clock.monotonic()
        while True:
            await asyncio.sleep(BEAT_S)
            asked_at = clock.monotonic()
            try:
                async with self._unit() as transaction:
                    cancel = await Jobs(transaction.session).renew(
                        held.id, self.id, self._lease_s, told.percent
                    )
            except RoostError as error:
                if not error.retryable:
                    raise
                if clock.monotonic() - kept_at > self._lease_s:
                    return _Stop.LOST
                continue
            if cancel is None:
                return _Stop.LOST
            if cancel:
                return _Stop.CANCELLED
            kept_at = asked_at

    async def _conclude(self, held: Held, error: BaseException | None) -> None:
        if error is None:
            logger.info("job.done")
        elif isinstance(error, Outage):
            # The database is away; the lease runs out and the job starts anew.
            logger.warning("job.abandoned", code=error.code)
            raise error
        elif isinstance(error, RoostError):
            state = JobState.CANCELLED if await self._is_cancelled(held) else JobState.FAILED
            await self._end(held, state, error if state is JobState.FAILED else None)
        else:
            # A fault of ours with this image must not take the other jobs with it.
            logger.error("job.crashed", exc_info=error)
            broken = RoostError("internal", "The service failed; its log says how.")
            await self._end(held, JobState.FAILED, broken)

    async def _is_cancelled(self, held: Held) -> bool:
        async with self._unit() as transaction:
            job = await Jobs(transaction.session).held(held.id, self.id)
            return job is not None and job.cancel_requested

    async def _end(self, held: Held, state: JobState, error: RoostError | None = None) -> None:
        """Clean up and end it. Only its holder may: the row is locked over both, so that nobody
        else takes the job meanwhile, and whoever sees the end finds nothing left behind.
        """
        async with self._unit() as transaction:
            job = await Jobs(transaction.session).held(held.id, self.id)
            if job is None:
                logger.warning("job.lost")
                return
            await self._discard(held)
            await end_without_result(transaction, job, state, self._unit.clock.now(), error)
        logger.info("job.ended", state=state.value, code=None if error is None else error.code)

    async def _give_back(self, held: Held) -> None:
        try:
            async with self._unit() as transaction:
                job = await Jobs(transaction.session).held(held.id, self.id)
                if job is not None:
                    await self._discard(held)
                    job.give_back()
        except RoostError as error:
            # Its lease runs out instead.
            logger.warning("job.not-given-back", code=error.code)

    async def _discard(self, held: Held) -> None:
        try:
            await self._imports.discard(held)
        except RoostError as error:
            # The storage is away; the reaper removes what is left when it is back.
            logger.warning("job.leftovers", code=error.code)


async def _layout_of(transaction: Transaction, job: Job) -> Layout | None:
    template = await Templates(transaction.session).find(job.template_id)
    if template is None:
        return None
    domain = await StorageDomains(transaction.session).get(str(template.storage_id))
    return domain.layout


async def _stopped(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait until they have ended; how they end is of no interest."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
