"""``/api/v1/jobs``: long work. For administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost_common.http import Admin, Page, Paging, encode_cursor
from roost_imaging.api.dependencies import Imaging, cut
from roost_imaging.repository import Jobs
from roost_imaging.schemas import JobView
from roost_imaging.states import JobState

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


@router.get("")
async def list_all(
    imaging: Imaging, _who: Admin, paging: Paging, state: JobState | None = None
) -> Page[JobView]:
    """All, the newest first."""
    async with imaging.unit_of_work() as transaction:
        listing = await Jobs(transaction.session).page(paging, state)
    rows, more = cut(listing, paging)
    return Page(
        items=[JobView.of(row) for row in rows],
        next=encode_cursor(rows[-1].created_at.isoformat(), str(rows[-1].id)) if more else None,
        total=listing.total,
    )


@router.get("/{job}")
async def get_one(job: str, imaging: Imaging, _who: Admin) -> JobView:
    """One; poll it until ``state`` is done, failed or cancelled."""
    async with imaging.unit_of_work() as transaction:
        return JobView.of(await Jobs(transaction.session).get(job))


@router.delete("/{job}", status_code=202)
async def cancel(job: str, imaging: Imaging, _who: Admin, response: Response) -> JobView:
    """Cancel it: a waiting one is cancelled at once, a running one after it has cleaned up."""
    found = await imaging.jobs.cancel(job)
    response.headers["Location"] = f"/api/v1/jobs/{found.id}"
    return JobView.of(found)


@router.post("/{job}/cancel", status_code=202)
async def cancel_by_post(job: str, imaging: Imaging, who: Admin, response: Response) -> JobView:
    """The same."""
    return await cancel(job, imaging, who, response)
