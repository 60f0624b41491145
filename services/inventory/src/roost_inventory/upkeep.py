"""What has to be done now and then: figures for the metrics, and forgetting."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from roost_common import idempotency
from roost_common.contracts.desktop import DesktopState
from roost_common.contracts.host import HostState
from roost_common.outbox import INBOX_KEPT, Relay, UnitOfWork
from roost_inventory import metrics
from roost_inventory.repository import Desktops, Hosts, Migrations, Sessions

COUNT_EVERY_S: Final = 15.0
FORGET_EVERY_S: Final = 3600.0
TOMBSTONES_KEPT: Final = timedelta(days=30)
"""Far longer than any command about a deleted desktop can be on its way."""


class Upkeep:
    """Passes of two slow loops."""

    def __init__(self, unit_of_work: UnitOfWork, relay: Relay) -> None:
        self._unit = unit_of_work
        self._relay = relay

    async def count(self) -> None:
        """Bring the gauges up to date."""
        async with self._unit() as transaction:
            desktops = await Desktops(transaction.session).count_by_state()
            hosts = await Hosts(transaction.session).count_by_state()
        for state in DesktopState:
            metrics.DESKTOPS.labels(state.value).set(desktops.get(state, 0))
        for host_state in HostState:
            metrics.HOSTS.labels(host_state.value).set(hosts.get(host_state, 0))
        await self._relay.pending()

    async def forget(self) -> None:
        """Drop what no message can ask for any more."""
        now = self._unit.clock.now()
        await self._relay.prune_inbox()
        async with self._unit() as transaction:
            await Desktops(transaction.session).forget_deleted(now - TOMBSTONES_KEPT)
            await Migrations(transaction.session).forget_ended(now - TOMBSTONES_KEPT)
            await Sessions(transaction.session).forget_ended(now - INBOX_KEPT)
            await idempotency.forget(transaction, now - idempotency.KEPT)
