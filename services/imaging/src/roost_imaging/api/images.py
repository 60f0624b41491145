"""``/api/v1/images``: the disks of desktops. For administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from roost_common.errors import NotFound
from roost_common.http import Admin, Page, Paging, encode_cursor
from roost_common.outbox import Transaction
from roost_imaging.api.dependencies import Imaging, cut
from roost_imaging.model import Disk
from roost_imaging.repository import Disks, StorageDomains, Templates
from roost_imaging.repository.pages import as_id
from roost_imaging.schemas import ImageView
from roost_imaging.states import DiskState

router = APIRouter(prefix="/api/v1/images", tags=["images"])


@router.get("")
async def list_all(
    imaging: Imaging,
    _who: Admin,
    paging: Paging,
    template: Annotated[str | None, Query(max_length=128)] = None,
) -> Page[ImageView]:
    """All, by id; ``template`` names one whose disks are meant."""
    async with imaging.unit_of_work() as transaction:
        template_id = None
        if template is not None:
            template_id = (await Templates(transaction.session).get(template)).id
        listing = await Disks(transaction.session).page(paging, template_id)
        rows, more = cut(listing, paging)
        items = await _views(transaction, rows)
    return Page(
        items=items, next=encode_cursor(str(rows[-1].id)) if more else None, total=listing.total
    )


@router.get("/{image}")
async def get_one(image: str, imaging: Imaging, _who: Admin) -> ImageView:
    """One, by the desktop's id."""
    disk_id = as_id(image)
    async with imaging.unit_of_work() as transaction:
        disk = None if disk_id is None else await Disks(transaction.session).find(disk_id)
        if disk is None or disk.state is DiskState.DELETED:
            raise NotFound("image.unknown", "There is no image {image}.", image=image)
        return (await _views(transaction, [disk]))[0]


async def _views(transaction: Transaction, rows: Sequence[Disk]) -> list[ImageView]:
    domains = {domain.id: domain for domain in await StorageDomains(transaction.session).all()}
    names = await Templates(transaction.session).names(
        {row.template_id for row in rows if row.template_id is not None}
    )
    return [
        ImageView.of(
            row,
            None if row.storage_id is None else domains[row.storage_id],
            None if row.template_id is None else names[row.template_id],
        )
        for row in rows
    ]
