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
    DesktopNotFound,
    ReimageDesktop,
    SetDesktopPower,
    StopMode,
)
from roost_common.errors import Unavailable
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory import orders
from roost_inventory.changes import answered
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
            desktops = Desktops(transaction.session)
            await desktops.claim(command.desktop_id)
            if await desktops.is_revoked(command.desktop_id):
                transaction.emit(DesktopNotFound(desktop_id=command.desktop_id))
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
            desktop = await self._known(transaction, delivery, command.desktop_id)
            if desktop is None:
                return
            with answered(transaction, desktop):
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
            desktop = await self._known(transaction, delivery, command.desktop_id)
            if desktop is None:
                return
            with answered(transaction, desktop):
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
            desktop = await self._known(transaction, delivery, command.desktop_id)
            if desktop is None:
                # Should its creation still come, it comes too late.
                now = self._unit.clock.now()
                await Desktops(transaction.session).revoke(command.desktop_id, now)
                return
            with answered(transaction, desktop):
                orders.delete(transaction, desktop, self._order(delivery))
            transaction.after_commit(self._wake)

    def _order(self, delivery: Delivery) -> orders.Order:
        return orders.Order(
            given_at=delivery.envelope.time,
            now=self._unit.clock.now(),
            correlation_id=delivery.envelope.correlation_id[:64],
        )

    @staticmethod
    async def _known(
        transaction: Transaction, delivery: Delivery, desktop_id: UUID
    ) -> Desktop | None:
        """The desktop, or its tombstone. None for one that is not there: that has been said.

        Raises `Unavailable` the first time, for its creation may be on its way; when the message
        comes again after a pause, it is not.
        """
        desktop = await Desktops(transaction.session).lock(desktop_id)
        if desktop is not None:
            return desktop
        if not delivery.redelivered:
            raise Unavailable(
                "desktop.not-yet-created", "Desktop {id} is not known yet.", id=str(desktop_id)
            )
        await Desktops(transaction.session).claim(desktop_id)
        desktop = await Desktops(transaction.session).lock(desktop_id)
        if desktop is not None:
            return desktop  # it was made in this very moment
        logger.warning("desktop.not-found", desktop=str(desktop_id), order=delivery.message.name)
        transaction.emit(DesktopNotFound(desktop_id=desktop_id))
        return None
