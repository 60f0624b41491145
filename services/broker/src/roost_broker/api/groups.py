"""Groups of local users."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost_broker.api.parts import Admin, Parts
from roost_broker.repository.identities import Identities
from roost_broker.schemas import GroupCreate, GroupPatch, GroupView
from roost_broker.views import group_view
from roost_common.http import IdempotencyKey, Page, Paging, encode_cursor

router = APIRouter(prefix="/api/v1/groups", tags=["groups"])


@router.get("", summary="All groups")
async def list_groups(parts: Parts, _who: Admin, paging: Paging) -> Page[GroupView]:
    """By name."""
    async with parts.unit_of_work() as transaction:
        identities = Identities(transaction.session)
        groups, total = await identities.groups(paging)
        more, groups = len(groups) > paging.limit, groups[: paging.limit]
        members = await identities.members_of([group.id for group in groups])
    items = [group_view(group, members.get(group.id, [])) for group in groups]
    return Page(items=items, next=encode_cursor(groups[-1].name) if more else None, total=total)


@router.post("", status_code=201, summary="A new group")
async def create_group(
    parts: Parts, who: Admin, body: GroupCreate, response: Response, key: IdempotencyKey = None
) -> GroupView:
    """With members by user name or id."""
    group_id = await parts.accounts.create_group(who, body, key)
    response.headers["Location"] = f"{router.prefix}/{group_id}"
    return await _view(parts, str(group_id))


@router.get("/{reference}", summary="One group")
async def get_group(parts: Parts, _who: Admin, reference: str) -> GroupView:
    """By id or name."""
    return await _view(parts, reference)


@router.patch("/{reference}", summary="Change a group")
async def change_group(parts: Parts, who: Admin, reference: str, body: GroupPatch) -> GroupView:
    """``members`` replaces them all."""
    return await _view(parts, str(await parts.accounts.change_group(who, reference, body)))


@router.delete("/{reference}", status_code=204, summary="Delete a group")
async def delete_group(parts: Parts, who: Admin, reference: str) -> Response:
    """Its entitlements go with it; its members stay."""
    await parts.accounts.delete_group(who, reference)
    return Response(status_code=204)


async def _view(parts: Parts, reference: str) -> GroupView:
    async with parts.unit_of_work() as transaction:
        identities = Identities(transaction.session)
        group = await identities.group(reference)
        members = await identities.members_of([group.id])
    return group_view(group, members.get(group.id, []))
