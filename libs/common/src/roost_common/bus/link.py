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
    replies: str
    """The queue to which answers to this process's questions come."""
    consumers: list[tuple[AbstractQueue, str]] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection or any of its channels is closed: then all is built anew."""

    @classmethod
    async def build(
        cls, connection: AbstractConnection, service: str, on_reply: Received, *, buries: bool
    ) -> Link:
        """Declares what every process needs; with ``buries`` also where the dead are kept."""
        publishing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchanges = await _declare_exchanges(publishing)
        if buries:
            await _declare_graveyard(publishing)
        replies = await publishing.declare_queue(
            f"roost.{service}.replies.{uuid4()}", exclusive=True, auto_delete=True
        )
        await replies.consume(on_reply, no_ack=True)
        replying = await connection.channel(publisher_confirms=False)
        link = cls(connection, publishing, replying, exchanges, replies.name)
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
