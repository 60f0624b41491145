"""Who may see or change which desktop, and how a desktop is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from fastapi import Response

from roost_common import log
from roost_common.contracts.base import Problem
from roost_common.contracts.spec import TemplateRef
from roost_common.errors import Conflict, Invalid, NotFound
from roost_common.outbox import Transaction
from roost_common.security import Identity
from roost_inventory import orders
from roost_inventory.api.parts import Inventory
from roost_inventory.model import Desktop
from roost_inventory.repository import Desktops, Hosts, Pools, Readings, Sessions, Templates
from roost_inventory.schemas import DesktopAnswer


async def template_for(transaction: Transaction, wanted: TemplateRef | str) -> TemplateRef:
    """The template version that is meant, with the name and OS it has here, whatever was said.

    Raises `Invalid` (``template.unknown``, ``template.version-unknown``).
    """
    key = str(wanted.id) if isinstance(wanted, TemplateRef) else wanted
    found = await Templates(transaction.session).find(key)
    if found is None:
        raise Invalid("template.unknown", "There is no template {template}.", template=key)
    version = wanted.version if isinstance(wanted, TemplateRef) else found.version
    # Of a template's versions only the newest is known here; no number beyond it was given yet.
    if version > found.version:
        raise Invalid(
            "template.version-unknown",
            "The template {template} has no version {version}.",
            template=found.name,
            version=version,
        )
    return TemplateRef(id=found.id, name=found.name, version=version, os=found.os)


async def visible(transaction: Transaction, caller: Identity, key: str) -> Desktop:
    """Raises `NotFound` for what is not there, and for what the caller may not know of."""
    desktops = Desktops(transaction.session)
    found = await desktops.id_of(key, user=None if caller.is_admin else caller.name)
    desktop = None if found is None else await desktops.get(found)
    if desktop is None:
        raise unknown(key)
    return desktop


async def to_change(transaction: Transaction, caller: Identity, key: str) -> Desktop:
    """The desktop, locked, for an administrator; what is not visible is not found before."""
    desktops = Desktops(transaction.session)
    found = await desktops.id_of(key, user=None if caller.is_admin else caller.name)
    if found is None:
        raise unknown(key)
    caller.require_admin()
    desktop = await desktops.lock(found)
    if desktop is None or desktop.deleted_at is not None:
        raise unknown(key)
    return desktop


async def host_name(transaction: Transaction, key: str) -> str:
    """Name of the host with this id or name; what is no host is given back as it is."""
    return await Hosts(transaction.session).name_of(key) or key


def require_living(desktop: Desktop) -> None:
    """Raises `Conflict` while it is being deleted."""
    if desktop.deleting:
        raise Conflict("desktop.deleting", "{name} is being deleted.", name=desktop.name)


def refuse_if(problem: Problem | None) -> None:
    """Raises `Invalid` with the problem, if there is one."""
    if problem is not None:
        raise Invalid(problem.code, "{why}", why=problem.detail)


def order_by(service: Inventory) -> orders.Order:
    """The circumstances of an order given by the present request."""
    return orders.Order(
        given_at=None,
        now=service.unit_of_work.clock.now(),
        correlation_id=log.current("correlation_id") or str(uuid4()),
    )


async def accepted(transaction: Transaction, desktop: Desktop, response: Response) -> DesktopAnswer:
    """The answer to an order: the desktop, and where to see what becomes of it."""
    response.headers["Location"] = f"/api/v1/desktops/{desktop.id}"
    return (await answers(transaction, [desktop]))[0]


async def answers(transaction: Transaction, desktops: Sequence[Desktop]) -> list[DesktopAnswer]:
    """Desktops with what is known of them elsewhere, in three queries for all."""
    ids = [desktop.id for desktop in desktops]
    if not ids:
        return []
    pools = await Pools(transaction.session).names(
        {desktop.pool_id for desktop in desktops if desktop.pool_id is not None}
    )
    users = await Sessions(transaction.session).users(ids)
    readings = await Readings(transaction.session).of(ids)
    return [
        DesktopAnswer.of(
            desktop,
            pools.get(desktop.pool_id) if desktop.pool_id else None,
            users.get(desktop.id, []),
            readings.get(desktop.id),
        )
        for desktop in desktops
    ]


def unknown(key: str) -> NotFound:
    """There is none, or none that the caller may know of."""
    return NotFound("desktop.unknown", "There is no desktop {desktop}.", desktop=key)
