"""One connection to the bus with its channels, and what becomes of it when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from roost_common import topology
from roost_common.topology import QueueSpec

Received = Callable[[AbstractIncomingMessage], Awaitable[None]]

BROKEN = (AMQPError, ConnectionError, OSError, TimeoutError, ChannelInvalidStateError)
"""How the loss of a connection shows, in `breaking`."""


@contextmanager
def breaking() -> Iterator[None]:
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
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # Lost on its way through the library, as `asyncio.wait_for` of Python 3.11 does.
            raise asyncio.CancelledError from error
        if type(error) is not Exception:
            raise
        raise ConnectionError("the connection broke") from error


@dataclass
class Link:
    """What lives as long as one connection."""

    connection: AbstractConnection
    publishing: AbstractChannel
    replying: AbstractChannel
    """Without confirms: who asked waits for the answer, or asks again."""
    exchanges: dict[str, AbstractExchange]
    answers: AbstractExchange
    """Where answers to others' questions go, on the channel ``replying``."""
    replies: str | None
    """The queue to which answers to this process's questions come; an agent asks nobody."""
    consumers: list[tuple[AbstractQueue, str]] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection or any of its channels is closed: then all is built anew."""

    @classmethod
    async def build(
        cls, connection: AbstractConnection, service: str, on_reply: Received, *, central: bool
    ) -> Link:
        """Declares what all share and a queue for answers, or without ``central`` neither."""
        publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        replies = None
        if central:
            await _declare_exchanges(publishing)
            await _declare_graveyard(publishing)
            replies = await _declare_replies(publishing, service, on_reply)
        # Asks for it passively: an error until a central service has declared it.
        exchanges = {
            name: await publishing.get_exchange(name) for name in topology.EXCHANGE_OF.values()
        }
        replying = await connection.channel(publisher_confirms=False)
        # Not asked for: where it is missing, an agent is better off without answers than mute.
        answers = await replying.get_exchange(topology.REPLIES, ensure=False)
        link = cls(connection, publishing, replying, exchanges, answers, replies)
        for part in (connection, publishing, replying):
            link.watch(part)
        return link

    async def consume(self, spec: QueueSpec, prefetch: int, received: Received) -> None:
        """Declare a queue and take what comes from it, on a channel of its own."""
        channel = await self.connection.channel(publisher_confirms=False)
        # RabbitMQ closes a channel alone, too: after its consumer timeout, for one.
        self.watch(channel)
        await channel.set_qos(prefetch_count=prefetch)
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
        self.consumers.append((queue, await queue.consume(received)))

    def watch(self, part: AbstractConnection | AbstractChannel) -> None:
        """Count the closing of ``part`` as the loss of the link."""
        part.close_callbacks.add(self._on_close)
        if part.is_closed:
            self.lost.set()

    def _on_close(self, *_: Any) -> None:
        self.lost.set()


async def _declare_exchanges(channel: AbstractChannel) -> None:
    # Replies, too: RabbitMQ limits routing keys on topic exchanges alone.
    for name in (*topology.EXCHANGE_OF.values(), topology.REPLIES):
        await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)


async def _declare_replies(channel: AbstractChannel, service: str, received: Received) -> str:
    name = topology.reply_queue(service, str(uuid4()))
    queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
    await queue.bind(topology.REPLIES, name)
    await queue.consume(received, no_ack=True)
    return name


async def _declare_graveyard(channel: AbstractChannel) -> None:
    await channel.declare_exchange(topology.DEAD, aio_pika.ExchangeType.FANOUT, durable=True)
    graveyard = await channel.declare_queue(
        topology.DEAD, durable=True, arguments={"x-queue-type": "quorum"}
    )
    await graveyard.bind(topology.DEAD)
