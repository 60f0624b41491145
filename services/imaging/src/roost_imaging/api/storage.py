"""``/api/v1/storage``: storage domains. For administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost_common.http import Admin, IdempotencyKey, Page, Paging, encode_cursor
from roost_imaging.api.dependencies import Imaging, cut
from roost_imaging.repository import StorageDomains
from roost_imaging.schemas import NewStorage, StorageView

router = APIRouter(prefix="/api/v1/storage", tags=["storage"])


@router.post("", status_code=201)
async def create(
    wish: NewStorage, imaging: Imaging, who: Admin, response: Response, key: IdempotencyKey = None
) -> StorageView:
    """Make a directory a storage domain."""
    domain = await imaging.storage.create(wish, who.name, key)
    response.headers["Location"] = f"/api/v1/storage/{domain.id}"
    return StorageView.of(domain, templates=0, disks=0)


@router.get("")
async def list_all(imaging: Imaging, _who: Admin, paging: Paging) -> Page[StorageView]:
    """All, by name."""
    async with imaging.unit_of_work() as transaction:
        domains = StorageDomains(transaction.session)
        listing = await domains.page(paging)
        rows, more = cut(listing, paging)
        ids = [row.id for row in rows]
        templates, disks = await domains.template_counts(ids), await domains.disk_counts(ids)
    items = [
        StorageView.of(row, templates=templates.get(row.id, 0), disks=disks.get(row.id, 0))
        for row in rows
    ]
    return Page(
        items=items, next=encode_cursor(rows[-1].name) if more else None, total=listing.total
    )


@router.get("/{storage}")
async def get_one(storage: str, imaging: Imaging, _who: Admin) -> StorageView:
    """One, by id or name."""
    async with imaging.unit_of_work() as transaction:
        domains = StorageDomains(transaction.session)
        domain = await domains.get(storage)
        templates = await domains.template_counts([domain.id])
        disks = await domains.disk_counts([domain.id])
    return StorageView.of(
        domain, templates=templates.get(domain.id, 0), disks=disks.get(domain.id, 0)
    )


@router.delete("/{storage}", status_code=204)
async def delete(storage: str, imaging: Imaging, _who: Admin) -> None:
    """Forget one that holds nothing."""
    await imaging.storage.delete(storage)
