"""``/api/v1/templates``: templates and their versions. Everybody may read."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from roost_common.http import Admin, Caller, IdempotencyKey, Page, Paging, encode_cursor
from roost_common.outbox import Transaction
from roost_imaging.api.dependencies import Imaging, cut
from roost_imaging.model import Job, Template
from roost_imaging.repository import StorageDomains, Templates
from roost_imaging.schemas import (
    ImportAccepted,
    NewTemplate,
    NewVersion,
    TemplateView,
    VersionView,
)

router = APIRouter(prefix="/api/v1/templates", tags=["templates"])


@router.post("", status_code=202)
async def create(
    wish: NewTemplate, imaging: Imaging, who: Admin, response: Response, key: IdempotencyKey = None
) -> ImportAccepted:
    """Import an image as a new template; poll the job named in ``Location``."""
    return _accepted(await imaging.imports.new_template(wish, who.name, key), response)


@router.get("")
async def list_all(imaging: Imaging, _who: Caller, paging: Paging) -> Page[TemplateView]:
    """All, by name."""
    async with imaging.unit_of_work() as transaction:
        listing = await Templates(transaction.session).page(paging)
        rows, more = cut(listing, paging)
        items = await _views(transaction, rows)
    return Page(
        items=items, next=encode_cursor(rows[-1].name) if more else None, total=listing.total
    )


@router.get("/{template}")
async def get_one(template: str, imaging: Imaging, _who: Caller) -> TemplateView:
    """One, by id or name."""
    async with imaging.unit_of_work() as transaction:
        row = await Templates(transaction.session).get(template)
        return (await _views(transaction, [row]))[0]


@router.delete("/{template}", status_code=204, responses={202: {"description": "Going on"}})
async def delete(template: str, imaging: Imaging, _who: Admin, response: Response) -> None:
    """Delete one that no desktop uses; 202 while its storage is away and it must wait."""
    if not await imaging.templates.delete(template):
        response.status_code = 202


@router.post("/{template}/versions", status_code=202)
async def create_version(  # noqa: PLR0917 - FastAPI passes by name
    template: str,
    wish: NewVersion,
    imaging: Imaging,
    who: Admin,
    response: Response,
    key: IdempotencyKey = None,
) -> ImportAccepted:
    """Import an image as the next version."""
    return _accepted(await imaging.imports.new_version(template, wish, who.name, key), response)


@router.get("/{template}/versions")
async def list_versions(template: str, imaging: Imaging, _who: Caller) -> Page[VersionView]:
    """All versions, the oldest first; a template has a few, so there is one page."""
    async with imaging.unit_of_work() as transaction:
        row = await Templates(transaction.session).get(template)
        view = (await _views(transaction, [row]))[0]
    return Page(items=view.versions, next=None, total=len(view.versions))


def _accepted(job: Job, response: Response) -> ImportAccepted:
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return ImportAccepted.of(job)


async def _views(transaction: Transaction, rows: Sequence[Template]) -> list[TemplateView]:
    ids = [row.id for row in rows]
    templates = Templates(transaction.session)
    versions, uses = await templates.versions(ids), await templates.uses(ids)
    names = {domain.id: domain.name for domain in await StorageDomains(transaction.session).all()}
    return [
        TemplateView.of(row, names[row.storage_id], versions.get(row.id, []), uses.get(row.id, []))
        for row in rows
    ]
