"""Jobs from outside: their queue's two exits that need no worker, and cancelling."""

from __future__ import annotations

from datetime import datetime

from roost_common import log
from roost_common.contracts.template import JobFinished
from roost_common.errors import Conflict, RoostError
from roost_common.outbox import Transaction, UnitOfWork
from roost_imaging import metrics
from roost_imaging.model import Job
from roost_imaging.repository import Jobs, Templates
from roost_imaging.states import JobState
from roost_imaging.wakers import Wake


class JobDesk:
    """Cancels jobs."""

    def __init__(self, unit_of_work: UnitOfWork, wake_workers: Wake) -> None:
        self._unit = unit_of_work
        self._wake_workers = wake_workers

    async def cancel(self, job_id: str) -> Job:
        """A waiting job ends at once, a running one when its worker has cleaned up.

        Raises `NotFound`, `Conflict` (``job.finished``).
        """
        async with self._unit() as transaction:
            job = await Jobs(transaction.session).get(job_id, lock=True)
            if job.finished:
                raise Conflict("job.finished", "The job is {state} already.", state=job.state.value)
            if job.state is JobState.QUEUED and job.attempt == 0:
                await end_without_result(
                    transaction, job, JobState.CANCELLED, self._unit.clock.now()
                )
            else:
                # It may have left files: a worker removes them before it says so.
                job.cancel_requested = True
            transaction.after_commit(self._wake_workers)
        return job


async def end_without_result(
    transaction: Transaction,
    job: Job,
    state: JobState,
    now: datetime,
    error: RoostError | None = None,
) -> None:
    """A job fails or is cancelled, and the rows of what it was to make go with it."""
    await Templates(transaction.session).forget_version(job.template_id, job.version)
    job.finish(state, now, None if error is None else error.problem)
    # Whoever ends it, its end belongs to the request that made it.
    with log.bound_contextvars(correlation_id=job.correlation):
        transaction.emit(
            JobFinished(
                job_id=job.id,
                job_kind=job.kind,
                state=state.value,
                problem=None if error is None else error.problem,
            )
        )
    metrics.JOBS_FINISHED.labels(job.kind, state.value).inc()
