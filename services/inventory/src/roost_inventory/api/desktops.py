"""``/api/v1/desktops``: administrators see and do all, users see those they have a session on."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Response

from roost_common import log
from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState, Power, StopMode
from roost_common.contracts.display import Done, RebootDesktop
from roost_common.errors import Conflict, Invalid, NotFound
from roost_common.http import Admin, Caller, IdempotencyKey, Page, Paging, encode_cursor
from roost_common.idempotency import claim
from roost_common.outbox import Transaction
from roost_common.security import Identity
from roost_inventory import orders
from roost_inventory.api.desktop_access import (
    accepted,
    answers,
    host_name,
    order_by,
    refuse_if,
    require_living,
    template_for,
    to_change,
    visible,
)
from roost_inventory.api.parts import Inventory, Service
from roost_inventory.model import Desktop
from roost_inventory.repository import (
    DesktopFilter,
    Desktops,
    Pools,
)
from roost_inventory.schemas import (
    DesktopAnswer,
    DesktopCreate,
    DesktopPatch,
    RebootRequest,
    ReimageRequest,
    ShutdownRequest,
)

logger = log.get_logger(__name__)
router = APIRouter(prefix="/api/v1/desktops", tags=["desktops"])

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "It is under way; poll ``Location``"}
}


@router.get("")
async def list_desktops(
    *,
    service: Service,
    caller: Caller,
    paging: Paging,
    pool: Annotated[str | None, Query(max_length=255)] = None,
    host: Annotated[str | None, Query(max_length=253)] = None,
    state: Annotated[list[DesktopState] | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=255)] = None,
) -> Page[DesktopAnswer]:
    """Desktops by name; ``pool`` and ``host`` are ids or names, ``name`` may have a ``*``."""
    async with service.unit_of_work() as transaction:
        which = DesktopFilter(
            pool_ids=None if pool is None else await Pools(transaction.session).ids_of(pool),
            host=None if host is None else await host_name(transaction, host),
            states=tuple(state or ()),
            name=name,
            user=None if caller.is_admin else caller.name,
        )
        found, total = await Desktops(transaction.session).page(
            which, limit=paging.limit + 1, after=paging.after[0] if paging.after else None
        )
        page = found[: paging.limit]
        items = await answers(transaction, page)
    more = encode_cursor(page[-1].name) if len(found) > paging.limit else None
    return Page(items=items, next=more, total=total)


@router.get("/{key}")
async def get_desktop(service: Service, caller: Caller, key: str) -> DesktopAnswer:
    """One desktop, by id or name."""
    async with service.unit_of_work() as transaction:
        return (await answers(transaction, [await visible(transaction, caller, key)]))[0]


@router.post("", status_code=202, responses=ACCEPTED)
async def create_desktop(
    service: Service,
    caller: Admin,
    wanted: DesktopCreate,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> DesktopAnswer:
    """Make a desktop of its own, outside of any pool."""
    new_id = uuid4()
    async with service.unit_of_work() as transaction:
        earlier = await claim(
            transaction,
            actor=str(caller.id),
            key=idempotency_key,
            request=wanted,
            resource_id=new_id,
            now=service.unit_of_work.clock.now(),
        )
        if earlier is None:
            desktop = await _create(service, transaction, wanted, new_id)
        else:
            desktop = await _made_earlier(transaction, earlier)
        transaction.after_commit(service.wake)
        return await accepted(transaction, desktop, response)


@router.patch("/{key}")
async def change_desktop(
    service: Service, caller: Caller, key: str, patch: DesktopPatch
) -> DesktopAnswer:
    """Change a desktop's hardware; a running one has it from its next start on."""
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        spec = desktop.spec.amended_by(patch.spec)
        refuse_if(await orders.spec_problem(transaction, spec, service.settings.overcommit))
        orders.change_spec(transaction, desktop, spec, order_by(service))
        transaction.after_commit(service.wake)
        return (await answers(transaction, [desktop]))[0]


@router.delete("/{key}", status_code=202, responses=ACCEPTED)
async def delete_desktop(
    service: Service, caller: Caller, key: str, response: Response
) -> DesktopAnswer:
    """Stop a desktop, take it and its disk away."""
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        orders.delete(transaction, desktop, order_by(service))
        transaction.after_commit(service.wake)
        return await accepted(transaction, desktop, response)


@router.post("/{key}/start", status_code=202, responses=ACCEPTED)
async def start_desktop(
    service: Service, caller: Caller, key: str, response: Response
) -> DesktopAnswer:
    """Have it run. One that could not be started is tried again at once."""
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        require_living(desktop)
        order = order_by(service)
        if desktop.power is Power.ON:
            orders.retry_now(transaction, desktop, order)
        orders.set_power(transaction, desktop, Power.ON, order, stop=StopMode.POWEROFF, grace_s=0)
        transaction.after_commit(service.wake)
        return await accepted(transaction, desktop, response)


@router.post("/{key}/shutdown", status_code=202, responses=ACCEPTED)
async def shut_desktop_down(
    service: Service,
    caller: Caller,
    key: str,
    response: Response,
    how: ShutdownRequest | None = None,
) -> DesktopAnswer:
    """Ask its guest to shut down; its power is cut when it has not followed in time."""
    grace_s = service.settings.shutdown_grace_s
    if how is not None and how.grace_s is not None:
        grace_s = how.grace_s
    return await _stop(service, caller, key, response, stop=StopMode.SHUTDOWN, grace_s=grace_s)


@router.post("/{key}/poweroff", status_code=202, responses=ACCEPTED)
async def power_desktop_off(
    service: Service, caller: Caller, key: str, response: Response
) -> DesktopAnswer:
    """Cut its power."""
    return await _stop(service, caller, key, response, stop=StopMode.POWEROFF, grace_s=0)


@router.post("/{key}/reboot", status_code=202, responses=ACCEPTED)
async def reboot_desktop(
    service: Service,
    caller: Caller,
    key: str,
    response: Response,
    how: RebootRequest | None = None,
) -> DesktopAnswer:
    """Restart its guest where it is."""
    async with service.unit_of_work() as transaction:
        found = await to_change(transaction, caller, key)
        answer = await accepted(transaction, found, response)
    if answer.state is not DesktopState.RUNNING or answer.host is None:
        raise Conflict("desktop.not-running", "{name} does not run.", name=answer.name)
    force = how is not None and how.force
    # Outside of the transaction: a node's answer is not waited for with locks in hand.
    await service.ask(
        RebootDesktop(desktop_id=answer.id, force=force),
        answer.host,
        Done,
        deadline_s=service.settings.reboot_deadline_s,
    )
    return answer


@router.post("/{key}/reimage", status_code=202, responses=ACCEPTED)
async def reimage_desktop(
    service: Service,
    caller: Caller,
    key: str,
    response: Response,
    how: ReimageRequest | None = None,
) -> DesktopAnswer:
    """Give it a fresh disk of its template."""
    how = how or ReimageRequest()
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        require_living(desktop)
        template = None
        if how.template is not None:
            template = await template_for(transaction, how.template)
        orders.reimage(
            transaction,
            desktop,
            desktop.disk_generation + 1,
            template,
            power=how.power or desktop.power,
            order=order_by(service),
        )
        transaction.after_commit(service.wake)
        return await accepted(transaction, desktop, response)


# --- what they share --------------------------------------------------------------------------


async def _stop(
    service: Inventory,
    caller: Identity,
    key: str,
    response: Response,
    *,
    stop: StopMode,
    grace_s: int,
) -> DesktopAnswer:
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        require_living(desktop)
        orders.set_power(
            transaction, desktop, Power.OFF, order_by(service), stop=stop, grace_s=grace_s
        )
        transaction.after_commit(service.wake)
        return await accepted(transaction, desktop, response)


async def _create(
    service: Inventory, transaction: Transaction, wanted: DesktopCreate, new_id: UUID
) -> Desktop:
    made = await orders.create(
        transaction,
        orders.NewDesktop(
            id=new_id,
            name=wanted.name,
            pool_id=None,
            template=await template_for(transaction, wanted.template),
            spec=wanted.spec,
            power=wanted.power,
        ),
        order_by(service),
        service.settings.overcommit,
    )
    if isinstance(made, Problem):
        if made.code == orders.NAME_TAKEN:
            raise Conflict(made.code, "{why}", why=made.detail)
        raise Invalid(made.code, "{why}", why=made.detail)
    return made


async def _made_earlier(transaction: Transaction, desktop_id: UUID) -> Desktop:
    desktop = await Desktops(transaction.session).get(desktop_id)
    if desktop is None:
        raise NotFound("desktop.unknown", "That desktop is gone.")
    return desktop
