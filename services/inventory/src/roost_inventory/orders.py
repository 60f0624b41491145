"""What people and services order of desktops; the bus and HTTP come here alike.

Each function works in the caller's transaction, publishes what it changed and has the reconcile
loop look at the desktop. An order for a desktop that was deleted is done already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import Power, StopMode
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.outbox import Transaction
from roost_inventory.changes import publish_new, published, say_again
from roost_inventory.model import Desktop
from roost_inventory.placement import Demand, Overcommit, beyond_all
from roost_inventory.repository import Desktops, Hosts

NAME_TAKEN = "desktop.name-taken"


@dataclass(frozen=True)
class Order:
    """Circumstances of an order."""

    given_at: datetime | None
    """By the clock of whoever gave it: of two power orders the later one counts. None for one that
    is given here and now, and so is later than any, whatever other clocks say."""
    now: datetime
    correlation_id: str

    def later_than(self, earlier: datetime) -> datetime:
        """When it was given, as it compares with an earlier order."""
        return self.given_at or max(self.now, earlier)


@dataclass(frozen=True, kw_only=True)
class NewDesktop:
    """A desktop to be made."""

    id: UUID
    name: str
    pool_id: UUID | None
    template: TemplateRef
    spec: DesktopSpec
    power: Power


async def create(
    transaction: Transaction, wanted: NewDesktop, order: Order, overcommit: Overcommit
) -> Desktop | Problem:
    """Make it, or say why it never will be. One that is there, or was, is given back as it is,
    and told of once more."""
    desktops = Desktops(transaction.session)
    known = await desktops.get(wanted.id)
    if known is not None:
        return say_again(transaction, known)
    problem = await spec_problem(transaction, wanted.spec, overcommit)
    if problem is not None:
        return problem
    desktop = Desktop.create(
        desktop_id=wanted.id,
        name=wanted.name,
        pool_id=wanted.pool_id,
        template=wanted.template,
        spec=wanted.spec,
        power=wanted.power,
        ordered_at=order.given_at or order.now,
        now=order.now,
        correlation_id=order.correlation_id,
    )
    if not await desktops.add(desktop):
        # Somebody was faster: with this very desktop, or with one of its name.
        known = await desktops.get(wanted.id)
        if known is not None:
            return say_again(transaction, known)
        return Problem(code=NAME_TAKEN, detail=f"There is a desktop {wanted.name}.")
    publish_new(transaction, desktop, order.now)
    return desktop


async def spec_problem(
    transaction: Transaction, spec: DesktopSpec, overcommit: Overcommit
) -> Problem | None:
    """Why no known host could ever carry it."""
    hosts = await Hosts(transaction.session).candidates()
    return beyond_all(hosts, Demand(spec.vcpus, spec.memory_mib), overcommit=overcommit)


def set_power(
    transaction: Transaction,
    desktop: Desktop,
    power: Power,
    order: Order,
    *,
    stop: StopMode,
    grace_s: int,
) -> bool:
    """Make it run or stop; False when a newer order or its deletion stands above this one."""
    with published(transaction, desktop):
        taken = desktop.order_power(
            power, order.later_than(desktop.power_ordered_at), stop=stop, grace_s=grace_s
        )
    return _followed(desktop, order, taken)


def retry_now(transaction: Transaction, desktop: Desktop, order: Order) -> None:
    """What failed before is tried again at once."""
    with published(transaction, desktop):
        desktop.retry_now()
    _followed(desktop, order, True)


def reimage(
    transaction: Transaction,
    desktop: Desktop,
    disk_generation: int,
    template: TemplateRef | None,
    *,
    power: Power,
    order: Order,
) -> bool:
    """Give it a fresh disk; False when it has that one already, or is being deleted."""
    with published(transaction, desktop):
        taken = desktop.order_reimage(disk_generation, template)
        if taken:
            given_at = order.later_than(desktop.power_ordered_at)
            desktop.order_power(power, given_at, stop=StopMode.POWEROFF, grace_s=0)
    return _followed(desktop, order, taken)


def change_spec(
    transaction: Transaction, desktop: Desktop, spec: DesktopSpec, order: Order
) -> None:
    """Change its hardware from its next start on. Raises `Conflict` while it is being deleted."""
    with published(transaction, desktop):
        desktop.order_spec(spec)
    _followed(desktop, order, True)


def delete(transaction: Transaction, desktop: Desktop, order: Order) -> bool:
    """Take it and its disk away; False when that was ordered before."""
    with published(transaction, desktop):
        taken = desktop.order_deletion()
    return _followed(desktop, order, taken)


def _followed(desktop: Desktop, order: Order, taken: bool) -> bool:
    if taken:
        desktop.correlation_id = order.correlation_id
        desktop.touch(order.now)
    return taken
