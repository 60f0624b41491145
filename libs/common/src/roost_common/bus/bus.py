"""A process's place on the bus.

One `Bus` per process keeps one connection, publishes with confirms, asks nodes questions with a
deadline, and hands received messages to handlers. When the connection is lost it connects again by
itself and consumes as before; publishing waits for that up to a deadline and then raises
`Unavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeVar
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from pydantic import ValidationError
from yarl import URL

from roost_common import log, metrics, topology
from roost_common.bus.handling import Handler, Outcome, handle
from roost_common.bus.link import BROKEN, Link, breaking
from roost_common.bus.wire import (
    STATUS,
    delivery_count,
    from_amqp,
    query_from_amqp,
    reply_of,
    to_amqp,
)
from roost_common.clock import Clock, SystemClock
from roost_common.contracts.base import Body, Envelope, Kind, Message, Query
from roost_common.errors import RoostError, Unavailable
from roost_common.topology import QueueSpec

logger = log.get_logger(__name__)

Responder = Callable[[Query], Awaitable[Body]]
B = TypeVar("B", bound=Body)

NO_CONSUMER: Final = "bus.no-consumer"
"""Code of the error for a command whose queue does not exist."""
HEARTBEAT_S: Final = 10
"""AMQP heartbeat; a silent peer is given up after about two of them."""
PUBLISH_DEADLINE_S: Final = 10.0
CONNECT_S: Final = 10.0
RECONNECT_MAX_S: Final = 5.0


@dataclass(frozen=True)
class Subscription:
    """A queue, who handles what comes from it, and how many messages at once."""

    queue: QueueSpec
    handler: Handler
    prefetch: int = 16


@dataclass(frozen=True)
class QuerySubscription:
    """A queue of questions and who answers them."""

    queue: QueueSpec
    responder: Responder
    prefetch: int = 16


class Bus:
    """This process's place on the bus; ``run`` keeps it connected until cancelled."""

    def __init__(
        self, url: str, service: str, *, clock: Clock | None = None, central: bool = True
    ) -> None:
        """``central``: this process sees to what all share: exchanges and the queue of the dead.

        Central services do. An agent may not touch those; it waits until they are there, as it
        waits for the bus, and asks no questions.
        """
        # A partition must be noticed in seconds; RabbitMQ's own default is a minute.
        self._url = str(URL(url).update_query(heartbeat=HEARTBEAT_S))
        self._central = central
        self._service = service
        self._source = f"/roost/{service}"
        self._clock = clock or SystemClock()
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._consuming = False
        self._subscriptions: list[Subscription | QuerySubscription] = []
        self._waiting: dict[str, asyncio.Future[AbstractIncomingMessage]] = {}
        self._in_hand: set[asyncio.Task[None]] = set()

    # --- life ---------------------------------------------------------------------------------

    def subscribe(self, subscription: Subscription | QuerySubscription) -> None:
        """Consume from now on; to be called before `run`."""
        self._subscriptions.append(subscription)

    @property
    def connected(self) -> bool:
        """Whether publishing works now."""
        return self._connected.is_set()

    async def wait_connected(self, deadline_s: float = PUBLISH_DEADLINE_S) -> None:
        """Raises `Unavailable` when the bus does not come back in time."""
        await self._require(deadline_s)

    async def run(self) -> None:
        """Keep connected and consuming; ends only by cancellation."""
        self._consuming = True
        delay = 0.1
        failing = False
        while True:
            try:
                async with self._connection() as link:
                    if failing:
                        logger.info("bus.recovered")
                    failing, delay = False, 0.1
                    await link.lost.wait()
                    logger.warning("bus.lost")
            except BROKEN as error:
                if not failing:
                    logger.warning("bus.unreachable", error=type(error).__name__)
                failing = True
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter only
            delay = min(delay * 2, RECONNECT_MAX_S)

    async def drain(self, deadline_s: float = 20.0) -> None:
        """Take no more messages, and finish those in hand."""
        self._consuming = False
        link = self._link
        if link is not None:
            for queue, tag in link.consumers:
                with contextlib.suppress(*BROKEN), breaking():
                    await queue.cancel(tag)
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=deadline_s)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Link]:
        name = f"roost-{self._service}"
        with breaking():
            # Not the library's own limit: that is `asyncio.wait_for`, which up to Python 3.11 loses
            # a cancellation that comes together with the outcome, and this would never end.
            async with asyncio.timeout(CONNECT_S):
                connection = await aio_pika.connect(
                    self._url, client_properties={"connection_name": name}
                )
        try:
            with breaking():
                link = await self._build(connection)
            self._link = link
            self._connected.set()
            metrics.BUS_CONNECTED.set(1)
            yield link
        finally:
            self._link = None
            self._connected.clear()
            metrics.BUS_CONNECTED.set(0)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_bus_unavailable())
            with contextlib.suppress(*BROKEN), breaking():
                async with asyncio.timeout(5):
                    await connection.close()

    async def _build(self, connection: AbstractConnection) -> Link:
        link = await Link.build(connection, self._service, self._on_reply, central=self._central)
        for subscription in self._subscriptions if self._consuming else []:
            received = partial(self._received, subscription)
            await link.consume(subscription.queue, subscription.prefetch, received)
        return link

    async def _require(self, deadline_s: float) -> Link:
        try:
            async with asyncio.timeout(deadline_s):
                while self._link is None:
                    await self._connected.wait()
        except TimeoutError:
            raise _bus_unavailable() from None
        return self._link

    # --- publishing ---------------------------------------------------------------------------

    def envelope(
        self,
        message: Message,
        *,
        correlation_id: str | None = None,
        causation_id: UUID | None = None,
        time: datetime | None = None,
    ) -> Envelope:
        """A new envelope for a message of this process."""
        return Envelope(
            id=uuid4(),
            type=message.name,
            source=self._source,
            time=time or self._clock.now(),
            subject=message.subject,
            correlation_id=correlation_id or str(uuid4()),
            causation_id=causation_id,
        )

    async def publish(
        self,
        message: Message,
        envelope: Envelope | None = None,
        *,
        node: str | None = None,
        deadline_s: float = PUBLISH_DEADLINE_S,
    ) -> None:
        """Hand one message to the bus and wait until the bus has it.

        Raises `Unavailable` (``bus.unavailable``) when that fails before the deadline.
        """
        await self.publish_raw(
            kind=message.kind,
            routing_key=topology.routing_key(message, node),
            body=message.model_dump_json().encode(),
            envelope=envelope or self.envelope(message),
            deadline_s=deadline_s,
        )

    async def publish_raw(
        self,
        *,
        kind: Kind,
        routing_key: str,
        body: bytes,
        envelope: Envelope,
        deadline_s: float = PUBLISH_DEADLINE_S,
    ) -> None:
        """The same for a message that was serialised earlier, as the outbox holds it.

        A command that no queue takes is refused by the bus and raises `Unavailable`: its consumer
        has never started.
        """
        amqp = to_amqp(body, envelope, persistent=kind is not Kind.TELEMETRY)
        link = await self._require(deadline_s)
        try:
            with breaking():
                async with asyncio.timeout(deadline_s):
                    await link.exchanges[topology.EXCHANGE_OF[kind]].publish(
                        amqp, routing_key, mandatory=kind is Kind.COMMAND
                    )
        except BROKEN as error:
            if isinstance(error, aio_pika.exceptions.DeliveryError):
                raise Unavailable(
                    NO_CONSUMER, "Nobody takes {type} yet.", type=routing_key
                ) from error
            raise _bus_unavailable() from error

    # --- questions ----------------------------------------------------------------------------

    async def request(self, query: Query, node: str, answer: type[B], *, deadline_s: float) -> B:
        """Ask a node's agent and wait for its answer.

        Raises `Unavailable` (``host.unreachable``) when no agent listens or none answers in time,
        or (``host.answer-unreadable``) answers nonsense, and the agent's own error, as it was
        raised there, when it refuses.
        """
        link = await self._require(deadline_s)
        if link.replies is None:
            raise TypeError(f"{self._service} has no queue for answers")
        envelope = self.envelope(query)
        correlation = str(envelope.id)
        future: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = future
        amqp = to_amqp(query.model_dump_json().encode(), envelope, persistent=False)
        amqp.reply_to = link.replies
        amqp.correlation_id = correlation
        amqp.expiration = deadline_s
        try:
            with breaking():
                async with asyncio.timeout(deadline_s):
                    await link.publishing.default_exchange.publish(
                        amqp, topology.query_queue(node).name, mandatory=True
                    )
                    incoming = await future
        except BROKEN as error:
            raise Unavailable(
                "host.unreachable", "The agent of {node} does not answer.", node=node
            ) from error
        finally:
            del self._waiting[correlation]
            if future.done() and not future.cancelled():
                future.exception()  # a late failure of the link has nobody else to see it
        return reply_of(incoming, answer)

    async def _on_reply(self, incoming: AbstractIncomingMessage) -> None:
        future = self._waiting.get(incoming.correlation_id or "")
        if future is not None and not future.done():
            future.set_result(incoming)

    async def _reply(self, incoming: AbstractIncomingMessage, responder: Responder) -> None:
        status, body = 200, b"{}"
        try:
            envelope, query = query_from_amqp(incoming)
            with log.bound_contextvars(correlation_id=envelope.correlation_id):
                answer = await responder(query)
            body = answer.model_dump_json().encode()
        except RoostError as error:
            status, body = error.status, error.problem.model_dump_json().encode()
        except Exception:
            logger.exception("bus.query-failed", type=incoming.type)
            status = 500
            body = b'{"code":"internal","detail":"The agent failed; its log says how."}'
        await incoming.ack()
        link = self._link
        if incoming.reply_to and link is not None:
            reply = aio_pika.Message(
                body,
                correlation_id=incoming.correlation_id,
                content_type="application/json",
                headers={STATUS: status},
            )
            # Who asked may be gone meanwhile, and its queue with it: then nobody misses the answer.
            await link.answers.publish(reply, incoming.reply_to, mandatory=False)

    # --- consuming ----------------------------------------------------------------------------

    async def _received(
        self, subscription: Subscription | QuerySubscription, incoming: AbstractIncomingMessage
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - consumers run as tasks
        self._in_hand.add(task)
        try:
            if isinstance(subscription, QuerySubscription):
                await self._reply(incoming, subscription.responder)
            else:
                await self._settle(incoming, subscription.handler)
        except BROKEN:
            # The connection went with the message unsettled: the bus delivers it again.
            logger.info("bus.settle-lost", type=incoming.type)
        finally:
            self._in_hand.discard(task)

    async def _settle(self, incoming: AbstractIncomingMessage, handler: Handler) -> None:
        kind = incoming.type or "unknown"
        try:
            delivery = from_amqp(incoming)
        except (KeyError, ValueError, ValidationError):
            logger.exception("message.unreadable", type=kind)
            metrics.MESSAGES_HANDLED.labels(kind, Outcome.DEAD).inc()
            await incoming.reject(requeue=False)
            return
        with (
            log.bound_contextvars(
                correlation_id=delivery.envelope.correlation_id, message=str(delivery.envelope.id)
            ),
            metrics.MESSAGE_SECONDS.labels(kind).time(),
        ):
            outcome = await handle(delivery, handler, delivery_count(incoming))
        metrics.MESSAGES_HANDLED.labels(kind, outcome).inc()
        if outcome is Outcome.DONE:
            await incoming.ack()
        else:
            await incoming.reject(requeue=outcome is Outcome.RETRIED)


def _bus_unavailable() -> Unavailable:
    return Unavailable("bus.unavailable", "The bus does not answer.")
