"""Commands from the bus: broker's pool loop orders desktops, with ids that it chose."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Delivery, Problem
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DesktopCreateRefused,
    ReimageDesktop,
    SetDesktopPower,
    StopMode,
)
from roost_common.errors import Unavailable
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory import orders
from roost_inventory.model import Desktop
from roost_inventory.repository import Desktops
from roost_inventory.settings import Settings

logger = log.get_logger(__name__)


class Commands:
    """Handlers of commands."""

    def __init__(self, unit_of_work: UnitOfWork, settings: Settings, wake: Callable[[], None]):
        self._unit = unit_of_work
        self._settings = settings
        self._wake = wake

    async def create(self, delivery: Delivery, command: CreateDesktop) -> None:
        """Make a desktop, or refuse for good."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            wanted = orders.NewDesktop(
                id=command.desktop_id,
                name=command.desktop_name,
                pool_id=command.pool_id,
                template=command.template,
                spec=command.spec,
                power=command.power,
            )
            made = await orders.create(
                transaction, wanted, self._order(delivery), self._settings.overcommit
            )
            if isinstance(made, Problem):
                logger.info("desktop.create-refused", name=wanted.name, code=made.code)
                transaction.emit(DesktopCreateRefused(desktop_id=wanted.id, problem=made))
            transaction.after_commit(self._wake)

    async def set_power(self, delivery: Delivery, command: SetDesktopPower) -> None:
        """Make a desktop run or stop; its guest is asked before its power is cut."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            desktop = await self._known(transaction, command.desktop_id)
            orders.set_power(
                transaction,
                desktop,
                command.power,
                self._order(delivery),
                stop=StopMode.SHUTDOWN,
                grace_s=self._settings.shutdown_grace_s,
            )
            transaction.after_commit(self._wake)

    async def reimage(self, delivery: Delivery, command: ReimageDesktop) -> None:
        """Give a desktop a fresh disk."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            desktop = await self._known(transaction, command.desktop_id)
            orders.reimage(
                transaction,
                desktop,
                command.disk_generation,
                command.template,
                power=command.power,
                order=self._order(delivery),
            )
            transaction.after_commit(self._wake)

    async def delete(self, delivery: Delivery, command: DeleteDesktop) -> None:
        """Take a desktop and its disk away."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            desktop = await self._known(transaction, command.desktop_id)
            orders.delete(transaction, desktop, self._order(delivery))
            transaction.after_commit(self._wake)

    def _order(self, delivery: Delivery) -> orders.Order:
        return orders.Order(
            given_at=delivery.envelope.time,
            now=self._unit.clock.now(),
            correlation_id=delivery.envelope.correlation_id[:64],
        )

    @staticmethod
    async def _known(transaction: Transaction, desktop_id: UUID) -> Desktop:
        """The desktop, or its tombstone.

        Raises `Unavailable` for one nobody has heard of: its creation is on its way, and the
        message comes again until it is there, or is given up.
        """
        desktop = await Desktops(transaction.session).lock(desktop_id)
        if desktop is None:
            raise Unavailable(
                "desktop.not-yet-created", "Desktop {id} is not known yet.", id=str(desktop_id)
            )
        return desktop
