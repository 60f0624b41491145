"""The hypervisor as the agent needs it: eight calls, each of them idempotent.

A domain is found by the id of its desktop, which is its libvirt UUID. Domains without Roost's
mark are somebody else's: no call sees or touches them.

Every call may raise `Outage` (``host.libvirt-unavailable``) while the hypervisor does not answer
at all, and `Unavailable` when it answers but did not do it this time. Any other `RoostError` is a
refusal: asking again with the same arguments gives the same answer until something else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DomainState,
    DomainStats,
    EnsureDesktop,
    GuestInfo,
    SpiceAddress,
    SpiceClient,
    StopReason,
)
from roost_common.contracts.host import HostCapabilities, HostStats
from roost_common.errors import Conflict, Outage

Changed = Callable[[UUID], None]
"""Called on the event loop with the id of a desktop that changed; it must not block."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What Roost writes into a domain's metadata: all that the agent must not forget.

    It lives in libvirt, so an agent that starts anew takes over the domains it finds.
    """

    desktop_id: UUID
    name: str
    generation: int
    """Of the desired state that was applied last."""
    boot_id: UUID
    """Identity of this run of the guest; it stays when the guest restarts itself."""
    disk: str
    """Path of the disk the guest was started with."""
    stop_by: datetime | None = None
    """The guest was asked to shut down; at this time its power is cut. Then it is undefined."""
    migration: UUID | None = None
    """The last migration from here that was begun in this run."""
    restart: bool = True
    """It is started elsewhere when this host fails, so it must end with the host's lease."""


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain as the hypervisor knows it now."""

    mark: Mark
    state: DomainState
    """Never ``ABSENT``: an absent domain has no view."""
    stop_reason: StopReason | None = None
    """Why it does not run, as far as the hypervisor knows; None while it runs."""
    spice: SpiceAddress | None = None
    clients: tuple[SpiceClient, ...] = ()
    guest: GuestInfo | None = None
    """None until the guest agent has answered once in this run."""
    stats: DomainStats | None = None
    problem: Problem | None = None
    """What keeps a running guest from working, as far as the hypervisor can tell."""
    migrating: bool = False
    """It is on its way from here to another node; `roost_host_agent.hypervisor.migration`."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node itself."""

    capabilities: HostCapabilities
    stats: HostStats


@dataclass(frozen=True, slots=True)
class DisplayAccess:
    """A screen that was opened. The password is a secret: never log this."""

    spice: SpiceAddress
    password: str

    def __repr__(self) -> str:
        return f"DisplayAccess(spice={self.spice!r})"


def outage() -> Outage:
    """Nothing can be asked of the hypervisor now."""
    return Outage("host.libvirt-unavailable", "libvirt does not answer on this host.")


NOT_RUNNING: Final = "desktop.not-running"


def not_running() -> Conflict:
    """The desktop, or the run of it that was meant, is over."""
    return Conflict(NOT_RUNNING, "The desktop, or this run of it, is not here any more.")


class Hypervisor(Protocol):
    """A driver. All calls come from one event loop; different desktops' calls may overlap."""

    async def run(self, changed: Changed) -> None:
        """Serve until cancelled: connect, connect again when lost, tell changes.

        ``changed`` names a desktop after anything an observer could see: started, stopped,
        undefined, a SPICE client came or went, the guest told something new. It may come too
        often and, across a lost connection, not at all: `domains` is the truth.
        """
        ...

    async def node(self) -> NodeView:
        """What this node can do, and how much of it is in use now."""
        ...

    async def domains(self, desktop_id: UUID | None = None) -> tuple[DomainView, ...]:
        """Every desktop's domain, or the one asked for (empty when it is absent).

        The whole list is one bulk call; SPICE clients and guest facts in it are at most half a
        minute old, while for one desktop the clients are asked for now. Use of resources is
        measured by calls for the whole list, from one to the next.
        """
        ...

    async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
        """Define the domain as wanted and have it run.

        Absent or shut off: defined, started, marked with ``boot_id``; when it cannot start it is
        left undefined and the reason is raised. Running: the definition is replaced for its next
        start, the mark gets the new generation, ``boot_id`` is ignored and the guest goes on.
        Paused: as running, and continued. A pending ``stop_by`` is forgotten, though a guest that
        was already asked to shut down may still do so.

        Refuses with ``desktop.disk-missing``, ``desktop.disk-locked``, ``host.resources``,
        ``host.unsupported``, ``host.name-taken``, ``desktop.start-failed``.
        """
        ...

    async def remove(self, desktop_id: UUID, generation: int, stop_by: datetime | None) -> None:
        """Have the domain neither run nor be defined.

        Absent: nothing. Shut off: undefined. Running or paused: with ``stop_by`` the guest is
        asked to shut down and the mark says until when it may take (asking again renews the
        mark and asks again); without it the power is cut and the domain is undefined.
        """
        ...

    async def reboot(self, desktop_id: UUID, *, force: bool) -> None:
        """Restart the guest inside its domain: ask it, or with ``force`` press reset.

        ``desktop.not-running`` unless it runs. The run, and so its ``boot_id``, stays the same.
        """
        ...

    async def open_display(self, desktop_id: UUID, boot_id: UUID, valid_s: int) -> DisplayAccess:
        """Set a fresh SPICE password, valid for ``valid_s`` seconds, and cut off who is connected.

        A second call makes the first one's password worthless. ``desktop.not-running`` unless
        this very run of the guest is there.
        """
        ...

    async def close_display(self, desktop_id: UUID, boot_id: UUID) -> None:
        """Make any password worthless and cut off who is connected.

        When that run of the guest is not there any more, there is nothing left to close.
        """
        ...
