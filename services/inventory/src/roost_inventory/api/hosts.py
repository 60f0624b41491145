"""``/api/v1/hosts``: for administrators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from roost_common import log
from roost_common.contracts.host import (
    HostActivated,
    HostApproved,
    HostDecided,
    HostMaintenance,
    HostState,
)
from roost_common.errors import NotFound
from roost_common.http import Admin, Page, Paging, encode_cursor
from roost_common.outbox import Transaction
from roost_inventory.api.clusters import found as find_cluster
from roost_inventory.api.parts import Inventory, Service
from roost_inventory.model import Host
from roost_inventory.model.host import Administrative
from roost_inventory.model.migration import Cause
from roost_inventory.reports import WAKE_ON_NEW_ROOM
from roost_inventory.repository import Clusters, Desktops, Hosts
from roost_inventory.schemas import EvacuationAnswer, HostAnswer, HostPatch

logger = log.get_logger(__name__)
router = APIRouter(prefix="/api/v1/hosts", tags=["hosts"])

Decision = Callable[[Host, datetime], bool]


@router.get("")
async def list_hosts(
    service: Service,
    caller: Admin,
    paging: Paging,
    state: Annotated[list[HostState] | None, Query()] = None,
) -> Page[HostAnswer]:
    """Hosts by name."""
    after = paging.after[0] if paging.after else None
    async with service.unit_of_work() as transaction:
        found, total = await Hosts(transaction.session).page(
            state or (), limit=paging.limit + 1, after=after
        )
        page = found[: paging.limit]
        items = await _answers(transaction, page)
    more = encode_cursor(page[-1].name) if len(found) > paging.limit else None
    return Page(items=items, next=more, total=total)


@router.get("/{key}")
async def get_host(service: Service, caller: Admin, key: str) -> HostAnswer:
    """One host, by id or name."""
    async with service.unit_of_work() as transaction:
        host = await Hosts(transaction.session).by_name(await _name(transaction, key))
        if host is None:
            raise _unknown(key)
        return (await _answers(transaction, [host]))[0]


@router.post("/{key}/approve")
async def approve_host(service: Service, caller: Admin, key: str) -> HostAnswer:
    """Let a node that has reported itself take desktops."""
    return await _decide(service, key, lambda host, now: host.approve(now), HostApproved)


@router.post("/{key}/maintenance")
async def put_into_maintenance(service: Service, caller: Admin, key: str) -> HostAnswer:
    """Empty a host: it takes no new desktops, and those it has are moved to others.

    It is in maintenance when the last one has left; ``evacuation`` tells how far it is.
    """
    async with service.unit_of_work() as transaction:
        host = await _locked(transaction, key)
        now = service.unit_of_work.clock.now()
        if host.prepare_maintenance(now):
            logger.info("host.decided", host=host.name, state=host.state.value, by=caller.name)
            if not await Desktops(transaction.session).ids_on(host.name):
                host.enter_maintenance(now)
        if host.administrative is Administrative.MAINTENANCE:
            _say_decided(transaction, host, HostMaintenance, now)
        return (await _answers(transaction, [host]))[0]


@router.post("/{key}/activate")
async def activate_host(service: Service, caller: Admin, key: str) -> HostAnswer:
    """Let a host in maintenance take desktops again, or give its evacuation up."""
    answer = await _decide(service, key, lambda host, now: host.activate(now), HostActivated)
    # Desktops are locked before hosts: a transaction of its own.
    async with service.unit_of_work() as transaction:
        desktops = Desktops(transaction.session)
        leaving = await desktops.leaving(answer.name, Cause.MAINTENANCE)
        for desktop in await desktops.lock_many(leaving):
            if desktop.migration is not None:
                service.migrating.cancel(transaction, desktop)
    return answer


@router.patch("/{key}")
async def change_host(service: Service, caller: Admin, key: str, patch: HostPatch) -> HostAnswer:
    """Give a host to another cluster; the desktops on it stay where they are."""
    async with service.unit_of_work() as transaction:
        cluster = await find_cluster(transaction, patch.cluster)
        host = await _locked(transaction, key)
        host.cluster_id = cluster.id
        logger.info("host.cluster", host=host.name, cluster=cluster.name, by=caller.name)
        return (await _answers(transaction, [host]))[0]


@router.delete("/{key}", status_code=204)
async def remove_host(service: Service, caller: Admin, key: str) -> Response:
    """Forget a host that carries no desktops and is not in service."""
    async with service.unit_of_work() as transaction:
        host = await _locked(transaction, key)
        host.require_removable(len(await Desktops(transaction.session).ids_on(host.name)))
        await Hosts(transaction.session).remove(host)
    logger.info("host.removed", host=host.name, by=caller.name)
    return Response(status_code=204)


async def _decide(
    service: Inventory, key: str, decision: Decision, event: type[HostDecided]
) -> HostAnswer:
    async with service.unit_of_work() as transaction:
        host = await _locked(transaction, key)
        now = service.unit_of_work.clock.now()
        if decision(host, now):
            logger.info("host.decided", host=host.name, state=host.state.value)
            if host.usable:
                await transaction.session.flush()
                await Desktops(transaction.session).wake_waiting(WAKE_ON_NEW_ROOM, now)
                transaction.after_commit(service.wake)
        if host.administrative is Administrative.ACTIVE:
            _say_decided(transaction, host, event, now)
        return (await _answers(transaction, [host]))[0]


def _say_decided(
    transaction: Transaction, host: Host, event: type[HostDecided], now: datetime
) -> None:
    """Also when it was decided before: whoever has missed it hears it now."""
    host.date_decision(now)
    transaction.emit(event(node=host.name, decided_at=host.decided_at))


async def _answers(transaction: Transaction, hosts: Sequence[Host]) -> list[HostAnswer]:
    counts = await Desktops(transaction.session).count_by_host()
    use = await Hosts(transaction.session).use()
    clusters = await Clusters(transaction.session).names()
    return [
        HostAnswer.of(
            host,
            clusters[host.cluster_id],
            counts.get(host.name, 0),
            use.get(host.name, (0, 0)),
            await _evacuation(transaction, host),
        )
        for host in hosts
    ]


async def _evacuation(transaction: Transaction, host: Host) -> EvacuationAnswer | None:
    if host.evacuation is None:
        return None
    desktops = Desktops(transaction.session)
    return EvacuationAnswer(
        since=host.evacuation.since,
        left=len(await desktops.ids_on(host.name)),
        moving=await desktops.count_moving(host.name),
        problem=host.evacuation.problem,
    )


async def _locked(transaction: Transaction, key: str) -> Host:
    host = await Hosts(transaction.session).lock_by_name(await _name(transaction, key))
    if host is None:
        raise _unknown(key)
    return host


async def _name(transaction: Transaction, key: str) -> str:
    name = await Hosts(transaction.session).name_of(key)
    if name is None:
        raise _unknown(key)
    return name


def _unknown(key: str) -> NotFound:
    return NotFound("host.unknown", "There is no host {host}.", host=key)
