"""The words of a launch: what is wanted, what is answered. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from roost_common.contracts.display import DisplayTicket
from roost_common.errors import RoostError


@dataclass(frozen=True)
class Place:
    """Where a screen is: what is needed to open it."""

    desktop_id: UUID
    name: str
    host: str
    boot_id: UUID


@dataclass(frozen=True)
class Client:
    """What is known of the machine in front of the user."""

    address: str
    name: str = ""
    monitors: int = 1
    fullscreen: bool = False
    thin_link: bool = False


@dataclass(frozen=True)
class Wish:
    """What a user wants to open; with neither pool nor desktop, the only one there is."""

    client: Client
    pool: str | None = None
    desktop: str | None = None
    new: bool = False
    protocols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Granted:
    """A desktop is the user's; its screen is not open yet."""

    launch_id: UUID
    session_id: UUID
    place: Place
    pool: str
    reason: str
    usb: bool
    client: Client


@dataclass(frozen=True)
class Ready:
    """The screen is open for whoever has this ticket."""

    granted: Granted
    ticket: DisplayTicket
    expires_at: datetime


@dataclass(frozen=True)
class Queued:
    """A place in the queue."""

    launch_id: UUID
    pool_id: UUID
    number: int
    """Grows with every launch; for the order of those that wait in one process."""
    starting: bool
    position: int
    retry_after_ms: int


@dataclass(frozen=True)
class Refused:
    """No desktop, and none to wait for. What the transaction noted is kept all the same."""

    error: RoostError


Step = Granted | Queued | Refused
