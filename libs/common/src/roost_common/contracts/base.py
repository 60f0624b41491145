"""What a message is: its kind, its name, and the registry the documents are generated from."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

_NAME: Final = re.compile(r"^[a-z][a-z-]*\.[a-z][a-z-]*\.v[1-9][0-9]*$")


class Kind(StrEnum):
    """How a message travels."""

    EVENT = "event"
    """A fact, on the exchange ``roost.events``; any number of consumers."""
    COMMAND = "command"
    """What somebody wants done, on ``roost.commands``; exactly one consumer."""
    QUERY = "query"
    """A question to one node's agent, with a reply and a deadline; never stored."""
    TELEMETRY = "telemetry"
    """A sample on ``roost.telemetry``: transient, the next one makes it worthless."""


class Body(BaseModel):
    """A part of a message.

    Unknown fields are ignored, so that an old consumer reads a newer publisher's message; `read`
    does so also in the parts that forbid them to people.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, text: bytes | str) -> Self:
        """From the JSON of whoever may be newer than this. Raises `ValidationError`."""
        return cls.model_validate_json(text, extra="ignore")

    @classmethod
    def recall(cls, stored: object) -> Self:
        """The same from a database's JSON. Raises `ValidationError`."""
        return cls.model_validate(stored, extra="ignore")


class Message(Body):
    """The body of a message; identity, time and origin travel in the envelope, never here.

    A concrete message names itself in its class line::

        class DesktopStarted(DesktopFact, name="desktop.started.v1"): ...
    """

    kind: ClassVar[Kind]
    name: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", **_: Any) -> None:
        # A class without a name of its own is an abstract step between Message and messages.
        cls.name = name
        if not name:
            return
        if not _NAME.match(name):
            raise TypeError(f"{name!r} is not noun.verb.vN")
        if name in REGISTRY:
            raise TypeError(f"two message classes are called {name!r}")
        REGISTRY[name] = cls

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @property
    def subject(self) -> str:
        """The CloudEvents subject: the id of what the message is about, or nothing."""
        return ""


class Event(Message):
    """A fact that has happened: ``noun.past.vN``."""

    kind: ClassVar[Kind] = Kind.EVENT


class Command(Message):
    """The whole desired state of one thing: ``noun.verb.vN``; repeating it changes nothing."""

    kind: ClassVar[Kind] = Kind.COMMAND


class NodeCommand(Command):
    """A command for the agent of one node; its routing key is ``<name>.<node>``."""


class NodeTelemetry(Message):
    """A sample for the agent of one node; its routing key is ``<name>.<node>``."""

    kind: ClassVar[Kind] = Kind.TELEMETRY


class Query(Message):
    """A question to the agent of one node, answered by the class named in ``answer``."""

    kind: ClassVar[Kind] = Kind.QUERY
    answer: ClassVar[type[Body]]


class Telemetry(Message):
    """A sample: losing one is nothing, and an old one is worthless."""

    kind: ClassVar[Kind] = Kind.TELEMETRY


REGISTRY: Final[dict[str, type[Message]]] = {}
"""Every message class by its name, filled as the classes are defined."""


class Problem(Body):
    """Why something could not be done, in a form that a program and a person can read."""

    code: str = Field(description="Stable, dotted: placement.no-capacity, storage.full …")
    detail: str = Field(description="One sentence for a person")


class Envelope(Body):
    """What travels beside a body: the CloudEvents attributes and the trace of one request."""

    id: UUID
    type: str
    source: str = Field(description="The service that says it: /roost/inventory")
    time: AwareDatetime
    subject: str = ""
    correlation_id: str = Field(description="One for everything that one request caused")
    causation_id: UUID | None = Field(default=None, description="Id of the message that caused it")


class Delivery(Body):
    """One received message with what the bus knows about it."""

    envelope: Envelope
    message: Message
    redelivered: bool = False


Timestamp = AwareDatetime
"""UTC; naive times are refused at the border."""

__all__ = [
    "REGISTRY",
    "Body",
    "Command",
    "Delivery",
    "Envelope",
    "Event",
    "Kind",
    "Message",
    "NodeCommand",
    "NodeTelemetry",
    "Problem",
    "Query",
    "Telemetry",
    "Timestamp",
]
