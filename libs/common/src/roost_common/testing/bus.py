"""A bus without a server: messages are kept for the test to look at, and handed on by hand."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from roost_common import topology
from roost_common.contracts.base import Body, Delivery, Envelope, Message, Query
from roost_common.errors import Unavailable

B = TypeVar("B", bound=Body)
M = TypeVar("M", bound=Message)


def delivery(
    message: Message, *, message_id: UUID | None = None, correlation_id: str = "test"
) -> Delivery:
    """One received message, as a handler gets it."""
    envelope = Envelope(
        id=message_id or uuid4(),
        type=message.name,
        source="/roost/test",
        time=datetime.now(UTC),
        subject=message.subject,
        correlation_id=correlation_id,
    )
    return Delivery.model_construct(envelope=envelope, message=message, redelivered=False)


class FakeBus:
    """Publishes into a list, answers questions with functions that the test gives."""

    def __init__(self) -> None:
        self.published: list[tuple[Message, str | None]] = []
        self.answers: dict[type[Query], Callable[[Query, str], Awaitable[Body]]] = {}
        self.connected = True

    async def publish(
        self,
        message: Message,
        envelope: Envelope | None = None,
        *,
        node: str | None = None,
        deadline_s: float = 10.0,
    ) -> None:
        """Keep it; with ``connected`` false raise what the real one raises."""
        topology.routing_key(message, node)
        if not self.connected:
            raise Unavailable("bus.unavailable", "The bus does not answer.")
        self.published.append((message, node))

    async def request(self, query: Query, node: str, answer: type[B], *, deadline_s: float) -> B:
        """Answer with the test's function for this kind of question."""
        if not self.connected or type(query) not in self.answers:
            raise Unavailable("host.unreachable", "The agent of {node} does not answer.", node=node)
        result = await self.answers[type(query)](query, node)
        # Through JSON and back, as over the wire.
        return answer.read(result.model_dump_json())

    def of(self, kind: type[M]) -> list[M]:
        """What was published of one class, oldest first."""
        return [message for message, _ in self.published if isinstance(message, kind)]


async def twice_and_out_of_order(
    handler: Callable[[Delivery], Awaitable[None]], messages: Sequence[Message], seed: int
) -> None:
    """Hand every message over twice, with the same id, in an order made from ``seed``.

    The promise of every consumer: the state afterwards is as if each had come once, in order.
    """
    deliveries = [delivery(message) for message in messages] * 2
    random.Random(seed).shuffle(deliveries)  # noqa: S311 - an order, not a secret
    for one in deliveries:
        await handler(one)
