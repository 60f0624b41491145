"""The loop that carries out what the clusters' policies decide.

One copy at a time does, by a lease in the database; a second one that still believes in its term
does no harm, for every action looks again under locks before it is ordered.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Final, Protocol
from uuid import uuid4

from roost_common import log
from roost_common.contracts.host import Health, HostPower, SetHostPower
from roost_common.errors import Conflict, Outage
from roost_common.lease import Lease
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory import metrics
from roost_inventory.load import STALE, Sample
from roost_inventory.migrating import Migrating
from roost_inventory.model import Administrative, Host
from roost_inventory.model.migration import Cause
from roost_inventory.outlook import Outlook, look
from roost_inventory.repository import Clusters, Desktops, Hosts
from roost_inventory.scheduling import Action, Migrate, PowerOff, PowerOn
from roost_inventory.settings import Settings

logger = log.get_logger(__name__)

LEASE: Final = "balance"
RENEW_EVERY_S: Final = 1.0
PASS_EVERY_S: Final = 15.0


class Orders(Protocol):
    """What policies order, each in the transaction of whoever decided it."""

    async def migrate(self, transaction: Transaction, move: Migrate) -> bool:
        """Begin a migration; False where that is not possible (any more)."""
        ...

    async def power(self, transaction: Transaction, host: Host) -> None:
        """Have ha-monitor do what is ordered of this host; asking again changes nothing."""
        ...


class Commands:
    """Orders by the bus."""

    def __init__(self, migrating: Migrating) -> None:
        self._migrating = migrating

    async def migrate(self, transaction: Transaction, move: Migrate) -> bool:
        """As a person would order it; what has changed since it was planned refuses it."""
        desktop = await Desktops(transaction.session).lock(move.desktop_id)
        if desktop is None or desktop.host != move.from_host:
            return False
        try:
            await self._migrating.begin(
                transaction,
                desktop,
                move.to_host,
                move.reason,
                str(uuid4()),
                cause=Cause.BALANCE,
            )
        except Conflict as refusal:
            logger.info("cluster.move-refused", desktop=move.desktop, code=refusal.code)
            return False
        return True

    async def power(self, transaction: Transaction, host: Host) -> None:
        """``host.set-power.v1``."""
        transaction.emit(
            SetHostPower(
                node=host.name,
                power=host.power,
                order=host.power_order,
                agent_id=host.agent_id if host.power is HostPower.OFF else None,
            )
        )


class Balancer:
    """Passes of the loop, and the lease that allows them."""

    def __init__(
        self, unit_of_work: UnitOfWork, settings: Settings, lease: Lease, orders: Orders
    ) -> None:
        self._unit = unit_of_work
        self._overcommit = settings.overcommit
        self._lease = lease
        self._orders = orders

    async def renew(self) -> None:
        """Take or keep the lease."""
        await self._lease.renew()

    async def release(self) -> None:
        """Let another copy take over now; without a database it does so when the lease ends."""
        with contextlib.suppress(Outage):
            await self._lease.release()

    async def step(self) -> None:
        """One pass: look, remember, decide, order."""
        if not self._lease.held:
            return
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            outlook = await look(transaction, self._overcommit, now)
            await self._remember(transaction, outlook)
            plans = outlook.plans()
        await self._repeat_orders(outlook)
        for cluster in outlook.clusters:
            for action in plans[cluster.id].actions:
                if not self._lease.held:
                    return
                if await self._carry_out(action):
                    kind = type(action).__name__
                    metrics.BALANCED.labels(kind).inc()
                    logger.info(
                        "cluster.ordered", cluster=cluster.name, action=kind, reason=action.reason
                    )

    async def _remember(self, transaction: Transaction, outlook: Outlook) -> None:
        clusters, now = Clusters(transaction.session), outlook.now
        durations = {one.id: one.scheduling.duration_s for one in outlook.clusters}
        carriers = {one.host for one in outlook.guests}
        moving = {
            name
            for one in outlook.guests
            if one.moving_to is not None
            for name in (one.host, one.moving_to)
        }
        for host in outlook.hosts:
            watch = outlook.watches.get(host.id) or await clusters.watch(host.id)
            watch.see(
                now,
                awake=host.usable,
                empty=host.name not in carriers,
                moving=host.name in moving,
                sample=Sample(
                    at=host.reported_at,
                    cpu_percent=host.stats.cpu_percent,
                    memory_percent=100 * host.stats.memory_used_mib / host.memory_mib,
                ),
                duration_s=durations[host.cluster_id],
            )

    async def _repeat_orders(self, outlook: Outlook) -> None:
        for one in outlook.hosts:
            if one.power_order == 0:
                continue
            async with self._unit() as transaction:
                host = await Hosts(transaction.session).lock_by_name(one.name)
                if host is not None and host.ask_again(outlook.now):
                    await self._orders.power(transaction, host)

    async def _carry_out(self, action: Action) -> bool:
        async with self._unit() as transaction:
            match action:
                case Migrate():
                    return await self._move(transaction, action)
                case PowerOff():
                    return await self._switch_off(transaction, action.host)
                case PowerOn():
                    return await self._wake(transaction, action.host)

    async def _move(self, transaction: Transaction, move: Migrate) -> bool:
        if not await self._orders.migrate(transaction, move):
            return False
        now, clusters = self._unit.clock.now(), Clusters(transaction.session)
        for name in (move.from_host, move.to_host):
            host = await Hosts(transaction.session).by_name(name)
            if host is None:
                continue
            watch = await clusters.watch(host.id)
            watch.changed_at = now
            if move.empties and name == move.from_host:
                watch.emptied_at = now
        return True

    async def _switch_off(self, transaction: Transaction, name: str) -> bool:
        """Nobody is placed there while its row is locked, nor after: its state is off then."""
        now, clusters = self._unit.clock.now(), Clusters(transaction.session)
        host = await Hosts(transaction.session).lock_by_name(name)
        if host is None or not host.usable or host.domains != 0:
            return False
        if now - host.reported_at > STALE or await clusters.carries(name):
            return False
        (await clusters.watch(host.id)).put_to_sleep = True
        await self._switch(transaction, host, HostPower.OFF, now)
        return True

    async def _wake(self, transaction: Transaction, name: str) -> bool:
        host = await Hosts(transaction.session).lock_by_name(name)
        if host is None or host.administrative is not Administrative.ACTIVE:
            return False
        if host.health is not Health.OFF or host.power is HostPower.ON:
            return False
        await self._switch(transaction, host, HostPower.ON, self._unit.clock.now())
        return True

    async def _switch(
        self, transaction: Transaction, host: Host, power: HostPower, now: datetime
    ) -> None:
        host.order_power(power, now)
        host.derive_state()
        await self._orders.power(transaction, host)
