"""Fence devices, orders to switch hosts, and whether anything may be fenced."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.contracts.host import HostPower
from roost_ha_monitor.model import Arming, FenceDevice, OrderState, PowerOrder


class FenceDevices:
    """Fence devices, in the order in which they are tried."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, node: str) -> Sequence[FenceDevice]:
        """A host's; lock the host first to change them."""
        chosen = sa.select(FenceDevice).where(FenceDevice.node == node)
        return (await self._session.scalars(chosen.order_by(FenceDevice.position))).all()

    async def everyone(self) -> Sequence[FenceDevice]:
        """All hosts'."""
        chosen = sa.select(FenceDevice).order_by(FenceDevice.node, FenceDevice.position)
        return (await self._session.scalars(chosen)).all()

    async def counts(self) -> dict[str, int]:
        """How many each host has that has any."""
        chosen = sa.select(FenceDevice.node, sa.func.count()).group_by(FenceDevice.node)
        return {node: count for node, count in await self._session.execute(chosen)}  # noqa: C416

    async def replace(self, node: str, devices: Sequence[FenceDevice]) -> int:
        """These and no others; returns how many there were. Lock the host first."""
        taken = await self._session.execute(
            sa.delete(FenceDevice).where(FenceDevice.node == node).returning(FenceDevice.position)
        )
        self._session.add_all(devices)
        return len(taken.all())


class PowerOrders:
    """The newest order of each host."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, node: str) -> PowerOrder | None:
        """A host's; lock the host first."""
        return await self._session.get(PowerOrder, node, with_for_update=True)

    def add(self, order: PowerOrder) -> None:
        """A host's first."""
        self._session.add(order)

    async def waiting(self) -> Sequence[PowerOrder]:
        """Those that are not answered."""
        chosen = sa.select(PowerOrder).where(PowerOrder.state == OrderState.WAITING)
        return (await self._session.scalars(chosen.order_by(PowerOrder.node))).all()

    async def going_off(self) -> set[str]:
        """Hosts that are to be switched off."""
        return {order.node for order in await self.waiting() if order.power is HostPower.OFF}


class Armings:
    """The site's switch for high availability."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def now(self) -> Arming | None:
        """How it stands; None: armed, and never switched."""
        return await self._session.get(Arming, 1, populate_existing=True)

    async def disarmed(self) -> bool:
        """Whether nothing may be fenced or granted armed."""
        standing = await self.now()
        return standing is not None and standing.disarmed

    async def switch(self, *, disarmed: bool, by: str, at: datetime, reason: str) -> None:
        """Switch it; who says again what holds already changes nothing."""
        said = postgresql.insert(Arming).values(
            id=1, disarmed=disarmed, by=by, at=at, reason=reason
        )
        await self._session.execute(
            said.on_conflict_do_update(
                index_elements=["id"],
                set_={name: said.excluded[name] for name in ("disarmed", "by", "at", "reason")},
                where=Arming.disarmed != disarmed,
            )
        )
