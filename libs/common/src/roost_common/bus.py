"""The bus: the only module that knows the AMQP library.

One `Bus` per process keeps one connection, builds the topology, publishes with confirms, asks
nodes questions with a deadline, and hands received messages to handlers. When the connection is
lost it connects again by itself and consumes as before; publishing waits for that up to a
deadline and then raises `Unavailable`.

A handler has three ends, decided in `Bus._settle` alone: done → ack; a retryable `RoostError` →
back-off and requeue, ended by the queue's delivery limit; anything else → dead letter. An
`Outage` is waited out with the message in hand, because the work itself did not fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pydantic import ValidationError
from yarl import URL

from roost_common import cloudevents, log, metrics, topology
from roost_common.clock import Clock, SystemClock
from roost_common.contracts.base import REGISTRY, Body, Delivery, Envelope, Kind, Message, Query
from roost_common.errors import Outage, RoostError, Unavailable, from_problem
from roost_common.topology import QueueSpec

logger = log.get_logger(__name__)

Handler = Callable[[Delivery], Awaitable[None]]
Responder = Callable[[Query], Awaitable[Body]]
B = TypeVar("B", bound=Body)

NO_CONSUMER: Final = "bus.no-consumer"
"""Code of the error for a command whose queue does not exist."""
HEARTBEAT_S: Final = 10
"""AMQP heartbeat; a silent peer is given up after about two of them."""
PUBLISH_DEADLINE_S: Final = 10.0
RETRY_STEPS_S: Final = (0.2, 1.0, 3.0)
"""Back-off by delivery count; each delivery keeps one place of the prefetch meanwhile."""
RECONNECT_MAX_S: Final = 5.0
_CONNECTION_ERRORS = (AMQPError, ConnectionError, OSError, asyncio.TimeoutError)


@contextmanager
def _breaking() -> Iterator[None]:
    """What the library leaves waiting when a connection breaks ends as `ConnectionError`.

    It cancels futures, or ends them with a bare `Exception`. To whoever waits for one the first
    looks like the end of their own task: of the beat, for instance, which nobody would miss.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection broke") from None
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError("the connection broke") from error


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


@dataclass
class _Link:
    """What lives as long as one connection."""

    connection: AbstractConnection
    publishing: AbstractChannel
    replying: AbstractChannel
    """Without confirms: who asked waits for the answer, or asks again."""
    exchanges: dict[str, AbstractExchange]
    replies: str
    consumers: list[tuple[AbstractQueue, str]]
    lost: asyncio.Event
    """Set when the connection or any of its channels is closed: then all is built anew."""

    def watch(self, part: AbstractConnection | AbstractChannel) -> None:
        """Count the closing of ``part`` as the loss of the link."""
        part.close_callbacks.add(self._on_close)
        if part.is_closed:
            self.lost.set()

    def _on_close(self, *_: Any) -> None:
        self.lost.set()


class Bus:
    """This process's place on the bus; ``run`` keeps it connected until cancelled."""

    def __init__(
        self, url: str, service: str, *, clock: Clock | None = None, buries: bool = True
    ) -> None:
        """``buries``: this process sees to it that dead letters are kept.

        Central services do; an agent may not touch the queue that holds everybody's dead.
        """
        # A partition must be noticed in seconds; RabbitMQ's own default is a minute.
        self._url = str(URL(url).update_query(heartbeat=HEARTBEAT_S))
        self._buries = buries
        self._service = service
        self._source = f"/roost/{service}"
        self._clock = clock or SystemClock()
        self._link: _Link | None = None
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
            except _CONNECTION_ERRORS as error:
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
                with contextlib.suppress(*_CONNECTION_ERRORS), _breaking():
                    await queue.cancel(tag)
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=deadline_s)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Link]:
        name = f"roost-{self._service}"
        with _breaking():
            connection = await aio_pika.connect(
                self._url, timeout=10, client_properties={"connection_name": name}
            )
        try:
            with _breaking():
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
            with contextlib.suppress(*_CONNECTION_ERRORS, ChannelInvalidStateError), _breaking():
                async with asyncio.timeout(5):
                    await connection.close()

    async def _build(self, connection: AbstractConnection) -> _Link:
        publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchanges = await _declare_exchanges(publishing)
        if self._buries:
            await _declare_graveyard(publishing)
        replies = await publishing.declare_queue(
            f"roost.{self._service}.replies.{uuid4()}", exclusive=True, auto_delete=True
        )
        await replies.consume(self._on_reply, no_ack=True)
        replying = await connection.channel(publisher_confirms=False)
        link = _Link(connection, publishing, replying, exchanges, replies.name, [], asyncio.Event())
        link.watch(connection)
        link.watch(publishing)
        link.watch(replying)
        for subscription in self._subscriptions if self._consuming else []:
            await self._consume(link, subscription)
        return link

    async def _consume(self, link: _Link, subscription: Subscription | QuerySubscription) -> None:
        channel = await link.connection.channel(publisher_confirms=False)
        # RabbitMQ closes a channel alone, too: after its consumer timeout, for one.
        link.watch(channel)
        await channel.set_qos(prefetch_count=subscription.prefetch)
        spec = subscription.queue
        # A half-open connection keeps its exclusive name until the bus gives it up.
        name = f"{spec.name}.{uuid4().hex[:8]}" if spec.exclusive else spec.name
        queue = await channel.declare_queue(
            name,
            durable=spec.durable,
            exclusive=spec.exclusive,
            auto_delete=spec.auto_delete,
            arguments=spec.arguments,
        )
        for exchange, key in spec.bindings:
            await queue.bind(exchange, key)

        async def received(incoming: AbstractIncomingMessage) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - consumers run as tasks
            self._in_hand.add(task)
            try:
                if isinstance(subscription, QuerySubscription):
                    await self._reply(incoming, subscription.responder)
                else:
                    await self._settle(incoming, subscription.handler)
            except (*_CONNECTION_ERRORS, ChannelInvalidStateError):
                # The connection went with the message unsettled: the bus delivers it again.
                logger.info("bus.settle-lost", type=incoming.type)
            finally:
                self._in_hand.discard(task)

        tag = await queue.consume(received)
        link.consumers.append((queue, tag))

    async def _require(self, deadline_s: float) -> _Link:
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
        amqp = _to_amqp(body, envelope, persistent=kind is not Kind.TELEMETRY)
        link = await self._require(deadline_s)
        try:
            with _breaking():
                async with asyncio.timeout(deadline_s):
                    await link.exchanges[topology.EXCHANGE_OF[kind]].publish(
                        amqp, routing_key, mandatory=kind is Kind.COMMAND
                    )
        except (*_CONNECTION_ERRORS, ChannelInvalidStateError) as error:
            if isinstance(error, aio_pika.exceptions.DeliveryError):
                raise Unavailable(
                    NO_CONSUMER, "Nobody takes {type} yet.", type=routing_key
                ) from error
            raise _bus_unavailable() from error

    # --- questions ----------------------------------------------------------------------------

    async def request(self, query: Query, node: str, answer: type[B], *, deadline_s: float) -> B:
        """Ask a node's agent and wait for its answer.

        Raises `Unavailable` (``host.unreachable``) when no agent listens or none answers in time,
        and the agent's own error, as it was raised there, when it refuses.
        """
        link = await self._require(deadline_s)
        envelope = self.envelope(query)
        correlation = str(envelope.id)
        future: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = future
        amqp = _to_amqp(query.model_dump_json().encode(), envelope, persistent=False)
        amqp.reply_to = link.replies
        amqp.correlation_id = correlation
        amqp.expiration = deadline_s
        try:
            with _breaking():
                async with asyncio.timeout(deadline_s):
                    await link.publishing.default_exchange.publish(
                        amqp, topology.query_queue(node).name, mandatory=True
                    )
                    incoming = await future
        except (*_CONNECTION_ERRORS, ChannelInvalidStateError) as error:
            raise Unavailable(
                "host.unreachable", "The agent of {node} does not answer.", node=node
            ) from error
        finally:
            del self._waiting[correlation]
            if future.done() and not future.cancelled():
                future.exception()  # a late failure of the link has nobody else to see it
        return _answer(incoming, answer)

    async def _on_reply(self, incoming: AbstractIncomingMessage) -> None:
        future = self._waiting.get(incoming.correlation_id or "")
        if future is not None and not future.done():
            future.set_result(incoming)

    async def _reply(self, incoming: AbstractIncomingMessage, responder: Responder) -> None:
        status, body = 200, b"{}"
        try:
            envelope, query = _query_from_amqp(incoming)
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
                headers={"roost-status": status},
            )
            await link.replying.default_exchange.publish(reply, incoming.reply_to, mandatory=False)

    # --- consuming ----------------------------------------------------------------------------

    async def _settle(self, incoming: AbstractIncomingMessage, handler: Handler) -> None:
        kind = incoming.type or "unknown"
        try:
            delivery = _from_amqp(incoming)
        except (KeyError, ValueError, ValidationError):
            logger.exception("message.unreadable", type=kind)
            metrics.MESSAGES_HANDLED.labels(kind, "dead").inc()
            await incoming.reject(requeue=False)
            return
        with (
            log.bound_contextvars(
                correlation_id=delivery.envelope.correlation_id, message=str(delivery.envelope.id)
            ),
            metrics.MESSAGE_SECONDS.labels(kind).time(),
        ):
            outcome = await self._handle(delivery, handler, _delivery_count(incoming))
        metrics.MESSAGES_HANDLED.labels(kind, outcome).inc()
        if outcome == "done":
            await incoming.ack()
        else:
            await incoming.reject(requeue=outcome == "retried")

    async def _handle(self, delivery: Delivery, handler: Handler, count: int) -> str:
        kind = delivery.envelope.type
        waited = 0.5
        while True:
            try:
                await handler(delivery)
            except Outage as error:
                logger.warning("message.waits", type=kind, code=error.code)
                await asyncio.sleep(waited)
                waited = min(waited * 2, RECONNECT_MAX_S)
            except RoostError as error:
                if not error.retryable:
                    logger.exception("message.dead", type=kind, code=error.code)
                    return "dead"
                logger.info("message.retried", type=kind, code=error.code, deliveries=count + 1)
                await asyncio.sleep(RETRY_STEPS_S[min(count, len(RETRY_STEPS_S) - 1)])
                return "retried"
            except Exception:
                logger.exception("message.dead", type=kind)
                return "dead"
            else:
                return "done"


# --- AMQP and back ----------------------------------------------------------------------------


async def _declare_exchanges(channel: AbstractChannel) -> dict[str, AbstractExchange]:
    # Queues name the dead-letter exchange in their arguments, so everybody declares it.
    await channel.declare_exchange(topology.DEAD, aio_pika.ExchangeType.FANOUT, durable=True)
    return {
        name: await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
        for name in (topology.EVENTS, topology.COMMANDS, topology.TELEMETRY)
    }


async def _declare_graveyard(channel: AbstractChannel) -> None:
    graveyard = await channel.declare_queue(
        topology.DEAD, durable=True, arguments={"x-queue-type": "quorum"}
    )
    await graveyard.bind(topology.DEAD)


def _to_amqp(body: bytes, envelope: Envelope, *, persistent: bool) -> aio_pika.Message:
    mode = aio_pika.DeliveryMode.PERSISTENT if persistent else aio_pika.DeliveryMode.NOT_PERSISTENT
    return aio_pika.Message(
        body,
        headers=cloudevents.to_headers(envelope),
        content_type="application/json",
        message_id=str(envelope.id),
        type=envelope.type,
        timestamp=envelope.time,
        app_id="roost",
        delivery_mode=mode,
    )


def _from_amqp(incoming: AbstractIncomingMessage) -> Delivery:
    """Raises KeyError for a type nobody knows and ValidationError for a body that is not its."""
    envelope = cloudevents.from_headers(incoming.headers, incoming.type)
    message = REGISTRY[envelope.type].model_validate_json(incoming.body)
    # model_construct: a Delivery adds nothing to be checked and must keep the concrete class.
    return Delivery.model_construct(
        envelope=envelope, message=message, redelivered=bool(incoming.redelivered)
    )


def _query_from_amqp(incoming: AbstractIncomingMessage) -> tuple[Envelope, Query]:
    delivery = _from_amqp(incoming)
    if not isinstance(delivery.message, Query):
        raise TypeError(f"{incoming.type} is no question")
    return delivery.envelope, delivery.message


def _delivery_count(incoming: AbstractIncomingMessage) -> int:
    """Earlier deliveries, as quorum queues count them."""
    count = incoming.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


def _answer(incoming: AbstractIncomingMessage, answer: type[B]) -> B:
    status = incoming.headers.get("roost-status", 200)
    if status == 200:
        return answer.model_validate_json(incoming.body)
    problem = json.loads(incoming.body)
    raise from_problem(int(str(status)), problem["code"], problem["detail"])


def _bus_unavailable() -> Unavailable:
    return Unavailable("bus.unavailable", "The bus does not answer.")
