"""Local users."""

from __future__ import annotations

from fastapi import APIRouter, Response

from roost_broker.api.parts import Admin, Parts
from roost_broker.repository.identities import Identities
from roost_broker.schemas import UserCreate, UserPatch, UserView
from roost_broker.views import user_view
from roost_common.http import IdempotencyKey, Page, Paging, encode_cursor

router = APIRouter(prefix="/api/v1/users", tags=["users"])


@router.get("", summary="All users")
async def list_users(parts: Parts, _who: Admin, paging: Paging) -> Page[UserView]:
    """By name."""
    async with parts.unit_of_work() as transaction:
        identities = Identities(transaction.session)
        users, total = await identities.users(paging)
        more, users = len(users) > paging.limit, users[: paging.limit]
        groups = await identities.groups_of([user.id for user in users])
    items = [user_view(user, groups.get(user.id, [])) for user in users]
    return Page(items=items, next=encode_cursor(users[-1].name) if more else None, total=total)


@router.post("", status_code=201, summary="A new user")
async def create_user(
    parts: Parts, who: Admin, body: UserCreate, response: Response, key: IdempotencyKey = None
) -> UserView:
    """Names are lower case, passwords have 8 to 256 characters."""
    user_id = await parts.accounts.create_user(who, body, key)
    response.headers["Location"] = f"{router.prefix}/{user_id}"
    return await _view(parts, str(user_id))


@router.get("/{reference}", summary="One user")
async def get_user(parts: Parts, _who: Admin, reference: str) -> UserView:
    """By id or name."""
    return await _view(parts, reference)


@router.patch("/{reference}", summary="Change a user")
async def change_user(parts: Parts, who: Admin, reference: str, body: UserPatch) -> UserView:
    """A new password or being disabled counts from the next log-on and the next launch."""
    return await _view(parts, str(await parts.accounts.change_user(who, reference, body)))


@router.delete("/{reference}", status_code=204, summary="Delete a user")
async def delete_user(parts: Parts, who: Admin, reference: str) -> Response:
    """The user's sessions end."""
    await parts.accounts.delete_user(who, reference)
    return Response(status_code=204)


async def _view(parts: Parts, reference: str) -> UserView:
    async with parts.unit_of_work() as transaction:
        identities = Identities(transaction.session)
        user = await identities.user(reference)
        groups = await identities.groups_of([user.id])
    return user_view(user, groups.get(user.id, []))
