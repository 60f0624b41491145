"""Messages in: what inventory, imaging and the nodes say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from roost_broker.ending import Ending, Moved
from roost_broker.model import PoolDesktop, Session
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.placement import Placement
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_broker.sightings import Sightings
from roost_common import log
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopCreated,
    DesktopCreateRefused,
    DesktopDeleted,
    DesktopFact,
    DesktopNotFound,
    DesktopReimaged,
    DesktopRestarted,
    DesktopStarted,
    DesktopStartRefused,
    DesktopState,
    DesktopStopped,
    DomainObserved,
    StopReason,
)
from roost_common.contracts.host import HostReport, PlacementLimitsChanged
from roost_common.contracts.migration import DesktopMigrated
from roost_common.contracts.session import EndReason
from roost_common.contracts.template import TemplateCreated, TemplateDeleted
from roost_common.outbox import Transaction, UnitOfWork
from roost_common.topology import QueueSpec, samples_queue, service_queue

logger = log.get_logger(__name__)

DESKTOP_FACTS: Final = (
    DesktopCreated,
    DesktopStarted,
    DesktopRestarted,
    DesktopMigrated,
    DesktopStopped,
    DesktopChanged,
    DesktopReimaged,
    DesktopStartRefused,
    DesktopDeleted,
)
WORK: Final[QueueSpec] = service_queue(
    "broker",
    *DESKTOP_FACTS,
    DesktopCreateRefused,
    DesktopNotFound,
    DomainObserved,
    PlacementLimitsChanged,
    TemplateCreated,
    TemplateDeleted,
)
SAMPLES: Final[QueueSpec] = samples_queue("broker", HostReport)

_RUN_IS_OVER: Final = frozenset(
    {
        DesktopState.STOPPED,
        DesktopState.STARTING,
        DesktopState.PROVISIONING,
        DesktopState.DELETING,
        DesktopState.DELETED,
    }
)
"""``stopping`` still runs, and of ``unknown`` nobody knows: sessions outlive both."""


class Handlers:
    """One method for each kind of message."""

    def __init__(
        self, unit_of_work: UnitOfWork, sightings: Sightings, ending: Ending, moved: Moved
    ) -> None:
        self._unit = unit_of_work
        self._sightings = sightings
        self._ending = ending
        self._moved = moved
        self._table: dict[type[Message], Callable[[Transaction, Message], Awaitable[None]]] = {
            DesktopCreateRefused: self._create_refused,
            DesktopNotFound: self._not_found,
            DomainObserved: self._domain_observed,
            PlacementLimitsChanged: self._limits_changed,
            TemplateCreated: self._template_created,
            TemplateDeleted: self._template_deleted,
            **dict.fromkeys(DESKTOP_FACTS, self._desktop),
        }

    async def work(self, delivery: Delivery) -> None:
        """A message of the work queue, once."""
        handle = self._table[type(delivery.message)]
        async with self._unit.handling(delivery) as transaction:
            if transaction is not None:
                await handle(transaction, delivery.message)

    async def sample(self, delivery: Delivery) -> None:
        """A report: repeating it changes nothing, and it is recorded nowhere."""
        assert isinstance(delivery.message, HostReport)  # noqa: S101 - the queue has no other
        await self._sightings.reported(delivery.message)

    # --- desktops -----------------------------------------------------------------------------

    async def _desktop(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, DesktopFact)  # noqa: S101 - by the table
        view = message.desktop
        desktop = await Desktops(transaction.session).lock(view.id)
        now = self._unit.clock.now()
        lineage = None if desktop is None else desktop.lineage
        if desktop is None or not desktop.seen(view, now):
            return
        self._after(transaction, desktop.pool_id)
        if desktop.session_id is not None:
            session = await Sessions(transaction.session).lock(desktop.session_id)
            if session is not None and session.is_open:
                await self._session(transaction, message, desktop, session, lineage)
        if view.state is DesktopState.DELETED:
            await transaction.session.delete(desktop)
        elif view.state is DesktopState.DELETING and not desktop.leaving:
            # Somebody else takes it away; it will not come back.
            desktop.leave(now)

    async def _session(
        self,
        transaction: Transaction,
        message: DesktopFact,
        desktop: PoolDesktop,
        session: Session,
        lineage: UUID | None,
    ) -> None:
        """What a view means for the session that holds the desktop.

        A run that was lost with its host is followed by another one of the same ``lineage`` (the
        one known before this view), for the same user; any other end of a run ends the session.
        Whichever view comes first says so: those between may come later, or never.
        """
        view = message.desktop
        if view.restarting:
            fact = session.lose_client(self._unit.clock.now())
            if fact is not None:
                transaction.emit(fact)
            return
        other_run = view.boot_id is not None and view.boot_id != session.boot_id
        follows = lineage is not None and view.lineage == lineage
        if other_run and follows and view.boot_id is not None:
            session.follow(view.boot_id, self._unit.clock.now())
            logger.info("session.follows", session=str(session.id), desktop=desktop.name)
        elif other_run or view.state in _RUN_IS_OVER:
            if view.state in (DesktopState.DELETING, DesktopState.DELETED):
                desktop.leaving = True
            reason = _end_reason(message, view.state)
            await self._ending.finish(transaction, session, desktop, reason)

    async def _create_refused(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, DesktopCreateRefused)  # noqa: S101 - by the table
        desktop = await Desktops(transaction.session).lock(message.desktop_id)
        if desktop is None or desktop.revision > 0:
            return
        logger.warning("desktop.refused", desktop=desktop.name, code=message.problem.code)
        self._after(transaction, desktop.pool_id)
        if desktop.leaving:
            await transaction.session.delete(desktop)
        else:
            desktop.refuse(message.problem, self._unit.clock.now())

    async def _not_found(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, DesktopNotFound)  # noqa: S101 - by the table
        desktop = await Desktops(transaction.session).lock(message.desktop_id)
        if desktop is None or desktop.session_id is not None:
            return  # the end of the session asks again
        if desktop.revision == 0 and not desktop.leaving:
            return  # its creation is on its way, or is asked for again
        logger.warning("desktop.lost", desktop=desktop.name, leaving=desktop.leaving)
        self._after(transaction, desktop.pool_id)
        await transaction.session.delete(desktop)

    # --- nodes and templates ------------------------------------------------------------------

    async def _domain_observed(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, DomainObserved)  # noqa: S101 - by the table
        await self._sightings.observed(transaction, message)

    async def _limits_changed(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, PlacementLimitsChanged)  # noqa: S101 - by the table
        await Placement(transaction.session).limits_changed(message)

    async def _template_created(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, TemplateCreated)  # noqa: S101 - by the table
        await Pools(transaction.session).template_created(
            message.template_id, message.template_name, message.version, message.os
        )
        await self._all_moved(transaction)

    async def _template_deleted(self, transaction: Transaction, message: Message) -> None:
        assert isinstance(message, TemplateDeleted)  # noqa: S101 - by the table
        await Pools(transaction.session).template_deleted(
            message.template_id, message.template_name
        )
        await self._all_moved(transaction)

    async def _all_moved(self, transaction: Transaction) -> None:
        for pool_id in await Pools(transaction.session).ids():
            self._after(transaction, pool_id)

    def _after(self, transaction: Transaction, pool_id: UUID) -> None:
        transaction.after_commit(lambda: self._moved(pool_id))


def _end_reason(message: Message, state: DesktopState) -> EndReason:
    if state in (DesktopState.DELETING, DesktopState.DELETED):
        return EndReason.DESKTOP_DELETED
    if isinstance(message, DesktopStopped) and message.reason is StopReason.GUEST_SHUTDOWN:
        return EndReason.GUEST_SHUTDOWN
    return EndReason.DESKTOP_STOPPED
