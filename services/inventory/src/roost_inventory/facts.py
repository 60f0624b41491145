"""Other services' facts, kept as projections; and ha-monitor's word on hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.contracts.host import (
    Health,
    HealthFact,
    HostDown,
    HostPower,
    HostPoweredOff,
    HostPoweredOn,
    HostPowerRefused,
    HostRecovered,
    HostSuspected,
    HostUp,
)
from roost_common.contracts.session import (
    PoolChanged,
    SessionConnected,
    SessionDisconnected,
    SessionEnded,
    SessionFact,
    SessionRequested,
    SessionState,
)
from roost_common.contracts.template import TemplateCreated, TemplateDeleted
from roost_common.outbox import UnitOfWork
from roost_inventory.reports import WAKE_ON_NEW_ROOM
from roost_inventory.repository import Desktops, Healths, Hosts, Pools, Sessions, Templates

logger = log.get_logger(__name__)

HEALTH: Final[dict[type[HealthFact], Health]] = {
    HostUp: Health.UP,
    HostSuspected: Health.SUSPECTED,
    HostDown: Health.DOWN,
    HostRecovered: Health.RECOVERED,
    HostPoweredOff: Health.OFF,
    # Switched on, and not up before it beats.
    HostPoweredOn: Health.OFF,
}
SWITCHED: Final[dict[type[HealthFact], HostPower]] = {
    HostPoweredOff: HostPower.OFF,
    HostPoweredOn: HostPower.ON,
}
SESSION_STATE: Final[dict[type[SessionFact], SessionState]] = {
    SessionRequested: SessionState.PENDING,
    SessionConnected: SessionState.ACTIVE,
    SessionDisconnected: SessionState.DISCONNECTED,
    SessionEnded: SessionState.ENDED,
}


class Facts:
    """Handlers of events that change a projection."""

    def __init__(self, unit_of_work: UnitOfWork, wake: Callable[[], None]) -> None:
        self._unit = unit_of_work
        self._wake = wake

    async def health(self, delivery: Delivery, fact: HealthFact) -> None:
        """A host's health changed. What people decided about it stays as it is."""
        health = HEALTH[type(fact)]
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            if not await Healths(transaction.session).record(fact, health):
                return
            now = self._unit.clock.now()
            # The loop says what it means for each desktop; desktops are locked before hosts.
            desktops = Desktops(transaction.session)
            await desktops.touch_on_host(fact.node, now)
            host = await Hosts(transaction.session).lock_by_name(fact.node)
            if host is not None:
                host.note_health(health, SWITCHED.get(type(fact)))
                logger.info("host.health", host=host.name, health=health.value)
                if host.usable:
                    await desktops.wake_waiting(WAKE_ON_NEW_ROOM, now)
            transaction.after_commit(self._wake)

    async def power_refused(self, delivery: Delivery, fact: HostPowerRefused) -> None:
        """A host could not be switched: it is as it was, and is left alone for a while."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is None:
                return
            now = self._unit.clock.now()
            host = await Hosts(transaction.session).lock_by_name(fact.node)
            if host is None or not host.note_refused(fact.power, fact.order, now):
                return
            host.derive_state()
            logger.warning(
                "host.power-refused", host=host.name, power=fact.power.value, code=fact.problem.code
            )
            if host.usable:
                await Desktops(transaction.session).wake_waiting(WAKE_ON_NEW_ROOM, now)
                transaction.after_commit(self._wake)

    async def pool(self, delivery: Delivery, fact: PoolChanged) -> None:
        """A pool has another name, or is gone."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is not None:
                await Pools(transaction.session).record(fact)

    async def template(self, delivery: Delivery, fact: TemplateCreated) -> None:
        """A template has a (newer) version."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is not None:
                await Templates(transaction.session).record(fact)

    async def template_deleted(self, delivery: Delivery, fact: TemplateDeleted) -> None:
        """A template is gone."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is not None:
                await Templates(transaction.session).record_deleted(fact)

    async def session(self, delivery: Delivery, fact: SessionFact) -> None:
        """A user has a desktop, or has it no more."""
        async with self._unit.handling(delivery) as transaction:
            if transaction is not None:
                state = SESSION_STATE[type(fact)]
                await Sessions(transaction.session).record(fact, state, self._unit.clock.now())
