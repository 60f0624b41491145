"""The names on the bus: exchanges, queues, routing keys. Pure; `bus` declares them.

Arguments of a queue cannot be changed in place (RabbitMQ answers PRECONDITION_FAILED): a change
here is a migration of every deployment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from roost_common.contracts.base import Kind, Message, NodeCommand, NodeTelemetry

EVENTS: Final = "roost.events"
COMMANDS: Final = "roost.commands"
TELEMETRY: Final = "roost.telemetry"
REPLIES: Final = "roost.replies"
"""Answers to questions; the routing key is the queue of whoever asked.

They do not go by the default exchange: RabbitMQ cannot limit whose queue is written to there, and
a node may answer but must not write into any queue whose name it knows.
"""
DEFAULT: Final = ""
"""AMQP's default exchange, which delivers to the queue that the routing key names."""
DEAD: Final = "roost.dead"
"""Exchange and queue of what nobody could handle."""

DELIVERY_LIMIT: Final = 20
"""Deliveries of one message before it is dead-lettered."""
TELEMETRY_TTL_MS: Final = 10_000
TELEMETRY_MAX_LENGTH: Final = 20_000

EXCHANGE_OF: Final = {
    Kind.EVENT: EVENTS,
    Kind.COMMAND: COMMANDS,
    Kind.TELEMETRY: TELEMETRY,
}


class Durability(StrEnum):
    """What a queue survives."""

    WORK = "work"
    """Quorum queue, shared by the copies of a service; survives everything but its deletion."""
    SAMPLES = "samples"
    """Shared by the copies, bounded, forgets: for telemetry."""
    OWN_SAMPLES = "own-samples"
    """The same, one per process: every copy sees every sample."""
    QUESTIONS = "questions"
    """A node's queries; gone with its agent, so that a question to nobody fails at once."""


@dataclass(frozen=True)
class QueueSpec:
    """A queue and what is bound to it: pairs of exchange and routing pattern."""

    name: str
    durability: Durability
    bindings: tuple[tuple[str, str], ...] = ()

    @property
    def durable(self) -> bool:
        """Whether the queue outlives the bus."""
        return self.durability is Durability.WORK

    @property
    def exclusive(self) -> bool:
        """Whether it belongs to one connection."""
        return self.durability is Durability.OWN_SAMPLES

    @property
    def auto_delete(self) -> bool:
        """Whether it goes with its last consumer."""
        return self.durability is not Durability.WORK

    @property
    def arguments(self) -> dict[str, Any]:
        """RabbitMQ's queue arguments."""
        if self.durability is Durability.WORK:
            return {
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": DEAD,
            }
        if self.durability is Durability.QUESTIONS:
            return {"x-message-ttl": 60_000}
        return {
            "x-message-ttl": TELEMETRY_TTL_MS,
            "x-max-length": TELEMETRY_MAX_LENGTH,
            "x-overflow": "drop-head",
        }


def routing_key(message: Message, node: str | None = None) -> str:
    """The name of the message, followed by the node for what is meant for one node."""
    if isinstance(message, NodeCommand | NodeTelemetry) != (node is not None):
        raise ValueError(f"{message.name} and node {node!r} do not fit")
    return message.name if node is None else f"{message.name}.{node}"


def is_genuine(message: type[Message], exchange: str, key: str, *, was_dead: bool) -> bool:
    """Whether a message that calls itself this came by the exchange and the key of such a message.

    What somebody may say, RabbitMQ decides by the routing key; what the message calls itself it
    does not look at. Nor does it look at the keys of a CC header, or at those of what comes through
    an exchange of one's own (it keeps its first exchange's name) or out of a dead-letter queue
    (``was_dead``). The default exchange is for those alone who may say anything.
    """
    if exchange == DEFAULT:
        return True
    if was_dead or exchange != EXCHANGE_OF.get(message.kind):
        return False
    if issubclass(message, NodeCommand | NodeTelemetry):
        return key.startswith(f"{message.name}.")
    return key == message.name


def bind(*messages: type[Message]) -> tuple[tuple[str, str], ...]:
    """Bindings for a service's queue: one per message class."""
    return tuple((EXCHANGE_OF[message.kind], message.name) for message in messages)


def service_queue(service: str, *messages: type[Message]) -> QueueSpec:
    """The work queue of a service: ``roost.<service>``."""
    return QueueSpec(f"roost.{service}", Durability.WORK, bind(*messages))


def samples_queue(service: str, *messages: type[Message], own: str = "") -> QueueSpec:
    """A service's queue of telemetry; with ``own``, a process's own one of that name."""
    suffix = f".{own}" if own else ""
    durability = Durability.OWN_SAMPLES if own else Durability.SAMPLES
    return QueueSpec(f"roost.{service}.telemetry{suffix}", durability, bind(*messages))


def node_queue(node: str, *messages: type[NodeCommand]) -> QueueSpec:
    """The work queue of a node's agent: ``roost.host-agent.<node>``."""
    bindings = tuple((COMMANDS, f"{message.name}.{node}") for message in messages)
    return QueueSpec(f"roost.host-agent.{node}", Durability.WORK, bindings)


def node_samples_queue(node: str, own: str, *messages: type[NodeTelemetry]) -> QueueSpec:
    """What a node's agent is told every second; ``own`` tells this run of it from others."""
    bindings = tuple((TELEMETRY, f"{message.name}.{node}") for message in messages)
    return QueueSpec(f"roost.host-agent.{node}.telemetry.{own}", Durability.OWN_SAMPLES, bindings)


def reply_queue(service: str, own: str) -> str:
    """The queue for answers to one process of a service; ``own`` tells it from others."""
    return f"roost.{service}.replies.{own}"


def query_queue(node: str) -> QueueSpec:
    """Where a node's agent is asked: reached through the default exchange by its name."""
    return QueueSpec(f"roost.host-agent.{node}.queries", Durability.QUESTIONS)
