"""Delivers what `announce` wrote down: at least once, and as far as possible not twice.

Every copy runs one. A try is claimed in one transaction, made in none, and its end recorded in
another, so that a mail server that takes its time holds no database connection. A copy that dies
in between leaves a claim that runs out; another one then tries again.
"""

from __future__ import annotations

import asyncio
from typing import Final

from roost_common import log
from roost_common.errors import RoostError
from roost_common.loops import Loop
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.notifications import metrics
from roost_ha_monitor.notifications.backoff import Backoff
from roost_ha_monitor.notifications.model import Channel, Notification, State
from roost_ha_monitor.notifications.notice import Notice, Undelivered
from roost_ha_monitor.notifications.repository import Notifications
from roost_ha_monitor.notifications.senders import Sender

logger = log.get_logger(__name__)

POLL_S: Final = 1.0
PLACES: Final = 8
"""Notices that one copy sends at once, each over another channel."""
TRY_S: Final = 30.0
"""A try that takes longer has failed."""
CLAIM_S: Final = 120.0
"""How long a copy has for a try and for recording how it ended."""
STOP_S: Final = 10.0
"""How long a copy that is stopped waits for its tries to end."""
_BACKOFF: Final = Backoff()


class Courier:
    """Tells what waits."""

    def __init__(
        self, unit_of_work: UnitOfWork, sender: Sender, backoff: Backoff = _BACKOFF
    ) -> None:
        self._unit = unit_of_work
        self._sender = sender
        self._backoff = backoff
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop = Loop("notifications", self.step, POLL_S)

    async def run(self) -> None:
        """Ends only by cancellation, after what is in hand, or by an unexpected error."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._loop.run()
            except asyncio.CancelledError:
                if self._under_way:
                    await asyncio.wait(self._under_way, timeout=STOP_S)
                raise

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopping = True

    async def step(self) -> None:
        """Begin what is due. Raises `Unavailable` while the database is away."""
        free = PLACES - len(self._under_way)
        if free <= 0 or self._stopping:
            return
        async with self._unit() as transaction:
            notifications = Notifications(transaction.session)
            await notifications.remind()
            dropped = await notifications.settle()
            claimed = await notifications.claim(free, CLAIM_S)
            metrics.WAITING.set(await notifications.waiting())
        metrics.DROPPED.inc(len(dropped))
        for notification, channel in claimed:
            task = self._group.create_task(self._deliver(notification, channel))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._loop.wake()

    async def _deliver(self, notification: Notification, channel: Channel) -> None:
        failure = await self._attempt(channel, notification.notice)
        ends = asyncio.get_running_loop().time() + CLAIM_S - TRY_S
        while True:
            try:
                state = await self._record(notification, failure)
                break
            except RoostError as error:
                # Sent, and nowhere to write it: it would be sent again. So this is tried for long.
                if not error.retryable or asyncio.get_running_loop().time() > ends:
                    logger.warning("notification.not-recorded", code=error.code)
                    return
                await asyncio.sleep(POLL_S)
        outcome = "failed" if state is State.WAITING else state.value
        metrics.TRIES.labels(channel.kind, outcome).inc()
        logger.info(
            "notification.tried",
            channel=channel.name,
            alert=notification.alert,
            object=notification.object,
            about=notification.about,
            attempt=notification.attempts,
            outcome=outcome,
            why=failure.detail if failure else None,
        )

    async def _attempt(self, channel: Channel, notice: Notice) -> Undelivered | None:
        try:
            async with asyncio.timeout(TRY_S):
                await self._sender.send(channel, notice)
        except Undelivered as error:
            return error
        except TimeoutError:
            return Undelivered(f"it took longer than {TRY_S:.0f} s", maybe=True)
        return None

    async def _record(self, tried: Notification, failure: Undelivered | None) -> State:
        async with self._unit() as transaction:
            notifications = Notifications(transaction.session)
            notification = await notifications.claimed(tried.id, tried.attempts)
            if notification is None:
                # Its channel is gone, or another copy took over after the claim ran out.
                return State.DROPPED
            now = await notifications.now()
            if failure is None:
                notification.sent(now)
            else:
                notification.failed(failure, now, self._backoff)
            return notification.state
