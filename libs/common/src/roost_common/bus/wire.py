"""Messages to AMQP and back."""

from __future__ import annotations

import json
from typing import Final, TypeVar

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from roost_common import cloudevents, topology
from roost_common.contracts.base import REGISTRY, Body, Delivery, Envelope, Query
from roost_common.errors import Unavailable, from_problem

B = TypeVar("B", bound=Body)

STATUS: Final = "roost-status"
"""Header of a reply: 200, or the HTTP status of the error in it."""
_DEATHS: Final = "x-death"
"""Header that RabbitMQ adds to what it dead-letters."""


def to_amqp(body: bytes, envelope: Envelope, *, persistent: bool) -> aio_pika.Message:
    """A message's JSON with its envelope as headers."""
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


def from_amqp(incoming: AbstractIncomingMessage) -> Delivery:
    """A message as it was sent.

    Raises KeyError for a type nobody knows, ValidationError for a body that is not its, and
    ValueError for one that did not come the way such messages come.
    """
    envelope = cloudevents.from_headers(incoming.headers, incoming.type)
    kind = REGISTRY[envelope.type]
    exchange, key = incoming.exchange or topology.DEFAULT, incoming.routing_key or ""
    if not topology.is_genuine(kind, exchange, key, was_dead=_DEATHS in incoming.headers):
        raise ValueError(f"{kind.name} is not to come by {exchange!r} with the key {key!r}")
    message = kind.read(incoming.body)
    # model_construct: a Delivery adds nothing to be checked and must keep the concrete class.
    return Delivery.model_construct(
        envelope=envelope, message=message, redelivered=bool(incoming.redelivered)
    )


def query_from_amqp(incoming: AbstractIncomingMessage) -> tuple[Envelope, Query]:
    delivery = from_amqp(incoming)
    if not isinstance(delivery.message, Query):
        raise TypeError(f"{incoming.type} is no question")
    return delivery.envelope, delivery.message


def delivery_count(incoming: AbstractIncomingMessage) -> int:
    """Earlier deliveries, as quorum queues count them."""
    count = incoming.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


def reply_of(incoming: AbstractIncomingMessage, expected: type[B]) -> B:
    """The reply to a question. Raises the error that the other side raised, and `Unavailable`
    (``host.answer-unreadable``) for what is no answer: who sends it is not to be relied on."""
    try:
        status = int(str(incoming.headers.get(STATUS, 200)))
        if status == 200:
            return expected.read(incoming.body)
        problem = json.loads(incoming.body)
        error = from_problem(status, str(problem["code"]), str(problem["detail"]))
    except (ValueError, TypeError, LookupError, RecursionError):
        # Without its cause, which quotes the answer: there may be a password in it.
        raise Unavailable("host.answer-unreadable", "The agent's answer cannot be read.") from None
    raise error
