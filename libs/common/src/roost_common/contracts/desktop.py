"""Desktops: what inventory says of them, what is asked of inventory, what is asked of a node."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import (
    Body,
    Command,
    Event,
    NodeCommand,
    Problem,
    Timestamp,
)
from roost_common.contracts.spec import DesktopSpec, TemplateRef

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label (RFC 1123): a desktop's name is its guest's host name too."""


class Power(StrEnum):
    """What should be."""

    ON = "on"
    OFF = "off"


class DesktopState(StrEnum):
    """What is, as inventory derives it from the desired state and the last observation."""

    PROVISIONING = "provisioning"
    """Its disk is being made, or made anew."""
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    UNKNOWN = "unknown"
    """Its host does not answer: it may run or not."""
    DELETING = "deleting"
    DELETED = "deleted"


class SpiceAddress(Body):
    """Where a running desktop's SPICE server listens, as clients reach it."""

    host: str
    port: int | None = Field(default=None, description="Plain SPICE and WebSocket, if it is open")
    tls_port: int | None = None


class DesktopView(Body):
    """A desktop as inventory publishes it: the whole of it, in every event.

    Of two views of one desktop the one with the higher ``revision`` is the newer.
    """

    id: UUID
    name: Name
    revision: int = Field(ge=1, description="Grows with every published change")
    generation: int = Field(ge=1, description="Grows with every change of what should be")
    state: DesktopState
    power: Power
    pool_id: UUID | None = None
    template: TemplateRef
    spec: DesktopSpec
    host: str | None = Field(default=None, description="Name of the node it is assigned to")
    boot_id: UUID | None = Field(
        default=None, description="Identity of this run of the guest, new at every start"
    )
    disk_generation: int = Field(ge=1, description="Grows with every re-image; 1 is a new disk")
    spice: SpiceAddress | None = None
    problem: Problem | None = Field(default=None, description="What keeps it from what should be")
    restarting: bool = Field(
        default=False,
        description="Its run was lost with its host, and it is started again: whose it was stays",
    )
    migrating_to: str | None = Field(default=None, description="The node it is being moved to")
    lineage: UUID | None = Field(
        default=None,
        description="The run with which this one began: restarts after a host's failure keep it",
    )


class DesktopFact(Event):
    """What all events about a desktop carry."""

    desktop: DesktopView

    @property
    def subject(self) -> str:
        return str(self.desktop.id)


class StopReason(StrEnum):
    """Why a desktop that ran does not run any more."""

    REQUESTED = "requested"
    """Somebody asked Roost for it."""
    GUEST_SHUTDOWN = "guest-shutdown"
    """Its user shut it down from inside."""
    CRASHED = "crashed"
    """QEMU ended without being told to, or the guest panicked."""
    LOST = "lost"
    """Its node no longer knows it."""
    HOST_FAILED = "host-failed"
    """Its node was fenced."""


class DesktopCreated(DesktopFact, name="desktop.created.v1"):
    """A desktop exists; its disk may still be in the making."""


class DesktopStarted(DesktopFact, name="desktop.started.v1"):
    """It runs: ``boot_id`` says which run, ``spice`` where its screen is."""


class DesktopRestarted(DesktopFact, name="desktop.restarted.v1"):
    """It runs again after its host had failed: another run of the guest, for the same user."""


class DesktopStopped(DesktopFact, name="desktop.stopped.v1"):
    """It does not run any more."""

    reason: StopReason


class DesktopChanged(DesktopFact, name="desktop.changed.v1"):
    """Anything else about it changed: state, spec, problem."""


class DesktopReimaged(DesktopFact, name="desktop.reimaged.v1"):
    """Its system disk is its template's again."""


class DesktopStartRefused(DesktopFact, name="desktop.start-refused.v1"):
    """It should run and cannot for now; ``desktop.problem`` says why, and it is tried again."""


class DesktopCreateRefused(Event, name="desktop.create-refused.v1"):
    """A desktop that was asked for will not be: its name is taken, or no host could ever run it."""

    desktop_id: UUID
    problem: Problem

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class DesktopDeleted(DesktopFact, name="desktop.deleted.v1"):
    """It is gone, and its disk with it."""


class DesktopNotFound(Event, name="desktop.not-found.v1"):
    """An order spoke of a desktop that inventory does not have, and that will not come any more.

    It was deleted before it was made, or so long ago that nothing is known of it.
    """

    desktop_id: UUID

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


# --- what is asked of inventory -------------------------------------------------------------


class CreateDesktop(Command, name="desktop.create.v1"):
    """Make a desktop. Who asks chooses the id, so that asking twice makes one."""

    desktop_id: UUID
    desktop_name: Name
    pool_id: UUID | None = None
    template: TemplateRef
    spec: DesktopSpec
    power: Power = Power.ON

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class SetDesktopPower(Command, name="desktop.set-power.v1"):
    """Make a desktop run or stop."""

    desktop_id: UUID
    power: Power

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class ReimageDesktop(Command, name="desktop.reimage.v1"):
    """Stop a desktop, give it a fresh disk of its template, and leave it in ``power``."""

    desktop_id: UUID
    disk_generation: int = Field(
        ge=2, description="The one to reach; a desktop already there is left alone"
    )
    power: Power = Power.ON
    template: TemplateRef | None = Field(
        default=None, description="The version to take from now on; the present one if not given"
    )

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


class DeleteDesktop(Command, name="desktop.delete.v1"):
    """Stop a desktop, take it and its disk away."""

    desktop_id: UUID

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


# --- what inventory asks of a node ----------------------------------------------------------


class DiskAttachment(Body):
    """A disk as the node sees it."""

    path: str = Field(description="Absolute, on the shared storage")
    format: Literal["qcow2"] = "qcow2"
    disk_id: UUID


class StopMode(StrEnum):
    """How a running desktop is stopped."""

    SHUTDOWN = "shutdown"
    """Ask the guest; cut the power when it has not followed after ``grace_s``."""
    POWEROFF = "poweroff"
    """Cut the power at once."""


class EnsureDesktop(NodeCommand, name="desktop.ensure.v1"):
    """The whole desired state of one desktop on one node.

    ``on``: it is defined with this spec and runs. ``off``: it neither runs nor is defined. A node
    that has applied a higher generation drops the message.
    """

    desktop_id: UUID
    desktop_name: Name
    generation: int = Field(ge=1)
    power: Power
    spec: DesktopSpec
    template: TemplateRef
    disk: DiskAttachment | None = Field(default=None, description="Needed to run")
    agent_id: UUID | None = Field(
        default=None,
        description="The run of the node's agent that is meant; another one drops the message",
    )
    stop: StopMode = StopMode.POWEROFF
    grace_s: int = Field(default=120, ge=0, description="For shutdown: seconds before power-off")

    @property
    def subject(self) -> str:
        return str(self.desktop_id)


# --- what a node says -----------------------------------------------------------------------


class DomainState(StrEnum):
    """A libvirt domain's state, reduced to what decisions need."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTOFF = "shutoff"
    ABSENT = "absent"
    """Not defined on this node."""


class GuestInfo(Body):
    """What the guest agent tells from inside."""

    os: str = ""
    kernel: str = ""
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()


class DomainStats(Body):
    """Use of resources since the last sample; percent are of what the desktop was given."""

    cpu_percent: float = 0.0
    memory_used_mib: int = 0
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    net_received_bytes: int = 0
    net_sent_bytes: int = 0


class SpiceClient(Body):
    """One connected SPICE client (its main channel)."""

    connection_id: int
    address: str


class DomainObservation(Body):
    """One desktop as its node sees it at ``observed_at``.

    That is a time of this run of the node's agent: within one run it only grows, and times of two
    runs do not compare, for a node's clock can be set back.
    """

    desktop_id: UUID
    generation: int = Field(ge=0, description="The one applied; 0 where the domain carries none")
    state: DomainState
    observed_at: Timestamp
    boot_id: UUID | None = None
    stop_reason: StopReason | None = None
    spice: SpiceAddress | None = None
    clients: tuple[SpiceClient, ...] = ()
    problem: Problem | None = Field(default=None, description="Why the last ensure did not do")
    guest: GuestInfo | None = None
    stats: DomainStats | None = None
    migrating: bool = Field(
        default=False,
        description="It is on its way from here to another node, and its absence there says "
        "nothing yet",
    )


class DomainObserved(Event, name="domain.observed.v1"):
    """A node saw a desktop change: started, stopped, refused, a SPICE client came or went."""

    node: str
    agent_id: UUID | None = Field(
        default=None, description="The run of the agent that saw it, as in its reports"
    )
    domain: DomainObservation

    @property
    def subject(self) -> str:
        return str(self.domain.desktop_id)
