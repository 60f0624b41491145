"""Pools and their entitlements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Response

from roost_broker.api.parts import Admin, Broker, Parts
from roost_broker.model import Pool
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.pools import Pools
from roost_broker.schemas import EntitlementEntry, PoolCreate, PoolPatch, PoolView
from roost_broker.views import pool_view
from roost_common.http import IdempotencyKey, Page, Paging, encode_cursor
from roost_common.outbox import Transaction

router = APIRouter(prefix="/api/v1/pools", tags=["pools"])

Entries = Annotated[list[EntitlementEntry], Body(max_length=10_000)]


@router.get("", summary="All pools")
async def list_pools(parts: Parts, _who: Admin, paging: Paging) -> Page[PoolView]:
    """By name."""
    async with parts.unit_of_work() as transaction:
        pools, total = await Pools(transaction.session).page(paging)
        more, pools = len(pools) > paging.limit, pools[: paging.limit]
        items = await _views(parts, transaction, pools)
    return Page(items=items, next=encode_cursor(pools[-1].name) if more else None, total=total)


@router.post("", status_code=201, summary="A new pool")
async def create_pool(
    parts: Parts, who: Admin, body: PoolCreate, response: Response, key: IdempotencyKey = None
) -> PoolView:
    """Its first desktops are made at once; nobody may use it until entitled."""
    pool_id = await parts.pools.create(who, body, key)
    response.headers["Location"] = f"{router.prefix}/{pool_id}"
    return await _view(parts, str(pool_id))


@router.get("/{reference}", summary="One pool")
async def get_pool(parts: Parts, _who: Admin, reference: str) -> PoolView:
    """By id or name."""
    return await _view(parts, reference)


@router.patch("/{reference}", summary="Change a pool")
async def change_pool(parts: Parts, who: Admin, reference: str, body: PoolPatch) -> PoolView:
    """New hardware or a new template reaches each desktop when nobody uses it."""
    return await _view(parts, str(await parts.pools.change(who, reference, body)))


@router.delete("/{reference}", status_code=202, summary="Delete a pool")
async def delete_pool(parts: Parts, who: Admin, reference: str, force: bool = False) -> Response:
    """Its desktops go one by one; with ``force`` the sessions on them end first."""
    pool_id = await parts.pools.delete(who, reference, force=force)
    return Response(status_code=202, headers={"Location": f"{router.prefix}/{pool_id}"})


@router.get(
    "/{reference}/entitlements",
    summary="Who may use a pool",
    response_model_exclude_none=True,
)
async def get_entitlements(parts: Parts, _who: Admin, reference: str) -> list[EntitlementEntry]:
    """Users and groups, by name."""
    async with parts.unit_of_work() as transaction:
        pools = Pools(transaction.session)
        pool = await pools.pool(reference)
        rows = await pools.entitlements(pool.id)
    return [EntitlementEntry(user=user, group=group) for user, group in rows]


@router.put(
    "/{reference}/entitlements",
    summary="Say who may use a pool",
    response_model_exclude_none=True,
)
async def put_entitlements(
    parts: Parts, who: Admin, reference: str, body: Entries
) -> list[EntitlementEntry]:
    """Exactly these from now on; sessions that are open stay."""
    pool_id = await parts.pools.entitle(who, reference, body)
    return await get_entitlements(parts, who, str(pool_id))


async def _view(parts: Broker, reference: str) -> PoolView:
    async with parts.unit_of_work() as transaction:
        pool = await Pools(transaction.session).pool(reference)
        return (await _views(parts, transaction, [pool]))[0]


async def _views(parts: Broker, transaction: Transaction, pools: Sequence[Pool]) -> list[PoolView]:
    session = transaction.session
    now = parts.unit_of_work.clock.now()
    pictures = await Desktops(session).pictures([(pool.id, pool.max) for pool in pools], now)
    waiting = await parts.launches(session).waiting([pool.id for pool in pools], now)
    names = await Pools(session).template_names([pool.template_id for pool in pools])
    return [
        pool_view(
            pool,
            pictures[pool.id],
            template=names.get(pool.template_id, str(pool.template_id)),
            waiting=waiting.get(pool.id, 0),
        )
        for pool in pools
    ]
