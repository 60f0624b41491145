"""A launch: from a user's wish to a ticket for a screen, or a place in the queue.

One transaction decides and records; the ticket is asked of the node after it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from pydantic import BaseModel

from roost_broker import metrics
from roost_broker.displays import NOT_RUNNING, RETRY_AFTER_S, Displays
from roost_broker.ending import Ending
from roost_broker.launch import Granted, Queued, Ready, Refused, Step, Wish
from roost_broker.launch_decision import LaunchDecision
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.launches import UNKNOWN, put_back
from roost_broker.repository.sessions import Sessions
from roost_common import log
from roost_common.contracts.session import EndReason
from roost_common.errors import NotFound, RoostError, Unavailable
from roost_common.idempotency import claim, lead_to
from roost_common.outbox import Transaction, UnitOfWork

logger = log.get_logger(__name__)


class Launching:
    """The use case; one object for the process."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        decision: LaunchDecision,
        displays: Displays,
        ending: Ending,
    ) -> None:
        self._unit = unit_of_work
        self._decision = decision
        self._displays = displays
        self._ending = ending

    async def start(
        self, user_id: UUID, wish: Wish, *, key: str | None = None, request: BaseModel | None = None
    ) -> Ready | Queued:
        """Answer a new wish.

        Raises `Forbidden` (not entitled), `NotFound`, `Conflict` (no common protocol, too many
        desktops, a choice to be made), `NoCapacity`, `Unavailable` (the node does not answer).
        """
        launch_id = uuid4()
        async with self._unit() as transaction:
            step = None
            if request is not None and key is not None:
                earlier = await claim(
                    transaction,
                    actor=str(user_id),
                    key=key,
                    request=request,
                    resource_id=launch_id,
                    now=self._unit.clock.now(),
                )
                if earlier is not None:
                    # Where it came to nothing the first time, it is tried anew, under the same id:
                    # the key leads to what it made in the end.
                    launch_id = earlier
                    step = await self._earlier(transaction, user_id, earlier)
            if step is None:
                step = await self._decision.first(transaction, user_id, wish, launch_id)
                if (
                    key is not None
                    and isinstance(step, Granted | Queued)
                    and step.launch_id != launch_id
                ):
                    # Another request's launch waits already, and this one was answered with it.
                    await lead_to(
                        transaction, actor=str(user_id), key=key, resource_id=step.launch_id
                    )
        return await self._finish(user_id, step)

    async def _earlier(
        self, transaction: Transaction, user_id: UUID, launch_id: UUID
    ) -> Step | None:
        try:
            return await self._decision.look(transaction, user_id, launch_id)
        except NotFound as error:
            if error.code != UNKNOWN:
                raise
            return None

    async def again(
        self, user_id: UUID, launch_id: UUID, *, waiting: bool = False
    ) -> Ready | Queued:
        """Answer the same wish once more, with a fresh ticket where there is a desktop.

        ``waiting``: in the same request. Raises besides `NotFound` (``launch.unknown``) and
        `Conflict` (``launch.session-ended``).
        """
        async with self._unit() as transaction:
            step = await self._decision.look(transaction, user_id, launch_id, waiting=waiting)
        return await self._finish(user_id, step)

    # --- the ticket ---------------------------------------------------------------------------

    async def _finish(self, user_id: UUID, step: Step, *, last: bool = False) -> Ready | Queued:
        if isinstance(step, Refused):
            metrics.LAUNCHES.labels(step.error.code).inc()
            raise step.error
        if isinstance(step, Queued):
            metrics.LAUNCHES.labels("queued").inc()
            return step
        asked_at = self._unit.clock.now()
        try:
            ticket = await self._displays.open(step.place)
        except RoostError as error:
            metrics.LAUNCHES.labels(error.code).inc()
            if error.code != NOT_RUNNING:
                raise
            # The node knows better than what inventory has said so far.
            if not await self._put_back(step):
                last = True
            if last:
                raise Unavailable(
                    error.code, error.text, retry_after_s=RETRY_AFTER_S, **error.fields
                ) from error
            async with self._unit() as transaction:
                second = await self._decision.look(
                    transaction, user_id, step.launch_id, waiting=True
                )
            return await self._finish(user_id, second, last=True)
        metrics.LAUNCHES.labels("ready").inc()
        logger.info(
            "launch.ready",
            user_id=str(user_id),
            desktop=step.place.name,
            session=str(step.session_id),
        )
        return Ready(step, ticket, asked_at + timedelta(seconds=ticket.valid_s))

    async def _put_back(self, granted: Granted) -> bool:
        """Its run is over; False when it may as well be on another host by now."""
        async with self._unit() as transaction:
            desktop = await Desktops(transaction.session).lock(granted.place.desktop_id)
            if desktop is not None and (desktop.moving or desktop.host != granted.place.host):
                return False
            session = await Sessions(transaction.session).get(granted.session_id)
            if session.connected_at is not None:
                # Somebody has worked there: whether that run ended with its host is for inventory
                # to say, and until then nothing of theirs is thrown away.
                return False
            await put_back(transaction.session, granted.launch_id, granted.session_id)
            await self._ending.end(transaction, granted.session_id, EndReason.DESKTOP_STOPPED)
        return True
