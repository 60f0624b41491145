"""Hosts: what a node tells of itself, what inventory and ha-monitor make of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import (
    Body,
    Command,
    Event,
    NodeTelemetry,
    Problem,
    Telemetry,
    Timestamp,
)
from roost_common.contracts.desktop import DomainObservation
from roost_common.contracts.spec import DesktopSpec

NodeName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""A host name (RFC 1123); it is part of the node's queue name and routing keys."""


class HostState(StrEnum):
    """A host as inventory sees it."""

    PENDING_APPROVAL = "pending_approval"
    UP = "up"
    MAINTENANCE = "maintenance"
    PREPARING_MAINTENANCE = "preparing_maintenance"
    """It takes no new desktops, and those it has are on their way to other hosts."""
    OFF = "off"
    """Switched off on purpose; woken when its room is needed."""
    NON_RESPONSIVE = "non_responsive"
    DOWN = "down"


class Health(StrEnum):
    """A host as ha-monitor's detector sees it."""

    UP = "up"
    SUSPECTED = "suspected"
    DOWN = "down"
    RECOVERED = "recovered"
    """It beats again after having been down, and is watched before it counts as up."""
    OFF = "off"
    """It was switched off on purpose: its silence is no failure."""


class HostCapabilities(Body):
    """What a node can do; the limits of a guest come from here."""

    cpus: int = Field(ge=1, description="Logical processors")
    memory_mib: int = Field(ge=1)
    cpu_model: str = ""
    virt_type: str = Field(description="kvm or qemu (software emulation)")
    max_vcpus: int = Field(ge=1, description="Most vCPUs one guest may have")
    spice: bool = True
    machine_types: tuple[str, ...] = ()
    libvirt_version: str = ""
    qemu_version: str = ""
    agent_version: str = ""


class HostStats(Body):
    """Use of a node's resources now."""

    cpu_percent: float = 0.0
    memory_used_mib: int = 0
    load_1m: float = 0.0


class HostBeat(Telemetry, name="host.beat.v1"):
    """Every second: this node's agent lives."""

    node: NodeName
    agent_id: UUID = Field(description="New at every start of the agent")
    sequence: int = Field(ge=0)
    sent_at: Timestamp
    libvirt: bool = Field(default=True, description="libvirtd answered lately")
    address: str = Field(default="", description="Where the node can be reached")
    lease_s: float = Field(
        default=0.0, ge=0, description="Life of the node's own lease; 0: it has none"
    )
    lease_armed: bool = Field(
        default=False,
        description="It holds a grant after whose end it stops its desktops that are restarted",
    )
    witness: UUID | None = Field(
        default=None, description="Identity of the shared directory in which nodes see each other"
    )

    @property
    def subject(self) -> str:
        return self.node


class LeaseGranted(NodeTelemetry, name="lease.granted.v1"):
    """ha-monitor has heard this node: its lease counts from when it *sent* that beat.

    Sent every second, by the copy that decides, to every node whose beats it hears.
    """

    node: NodeName
    agent_id: UUID = Field(description="Of the beat; a grant for another run is none")
    sequence: int = Field(ge=0, description="Of the beat; a lower one than before is ignored")
    armed: bool = Field(
        description="Whether the node is to stop its desktops that are restarted when it ends"
    )

    @property
    def subject(self) -> str:
        return self.node


class HostReport(Telemetry, name="host.report.v1"):
    """Every few seconds: the node, and every desktop on it. What is not named does not run here."""

    node: NodeName
    agent_id: UUID = Field(description="New at every start of the agent")
    address: str = Field(description="Where clients reach this node's SPICE ports")
    sent_at: Timestamp = Field(description="Grows within one run of the agent, like observed_at")
    capabilities: HostCapabilities
    stats: HostStats
    domains: tuple[DomainObservation, ...] = ()
    complete: bool = Field(
        default=True,
        description="False while nothing can be said of the desktops: libvirtd does not answer, or "
        "the guard's list cannot be written. Then absence says nothing",
    )

    @property
    def subject(self) -> str:
        return self.node


class HostFact(Event):
    """What inventory's events about a host carry."""

    node: NodeName

    @property
    def subject(self) -> str:
        return self.node


class HostEnrolled(HostFact, name="host.enrolled.v1"):
    """A node nobody knew has reported itself and waits for approval."""


class HostDecided(HostFact):
    """What inventory's events about a host's service carry."""

    decided_at: Timestamp | None = Field(
        default=None,
        description="Grows with every such decision about this host; absent: as the event's time",
    )


class HostApproved(HostDecided, name="host.approved.v1"):
    """An administrator accepted a node: it takes desktops."""


class HostMaintenance(HostDecided, name="host.maintenance.v1"):
    """A host has no desktops, and takes none until it is activated again."""


class HostActivated(HostDecided, name="host.activated.v1"):
    """A host in maintenance takes desktops again, or its evacuation is given up."""


class HealthFact(HostFact):
    """What ha-monitor's events about a host carry."""

    sequence: int = Field(ge=1, description="Grows with every change of this host's health")
    since: Timestamp
    reason: str


class HostUp(HealthFact, name="host.up.v1"):
    """A host beats."""


class HostSuspected(HealthFact, name="host.suspected.v1"):
    """A host has missed beats; nothing is decided yet."""


class HostDown(HealthFact, name="host.down.v1"):
    """A host has been silent long enough; its desktops may still run."""


class HostRecovered(HealthFact, name="host.recovered.v1"):
    """A host that was down beats again."""


class HostPower(StrEnum):
    """A host as a whole."""

    ON = "on"
    OFF = "off"


class SetHostPower(Command, name="host.set-power.v1"):
    """Switch a host off, or wake it, through its fence devices; asked of ha-monitor.

    It is repeated until it is answered, with the same ``order``: one that was answered before is
    answered with the same again and never done again, and an older one is dropped.
    """

    node: NodeName
    power: HostPower
    order: int = Field(default=0, ge=0, description="Grows with every order for this node")
    agent_id: UUID | None = Field(
        default=None,
        description="For off: the run of its agent that has no desktops; another one is refused",
    )

    @property
    def subject(self) -> str:
        return self.node


class HostPoweredOff(HealthFact, name="host.powered-off.v1"):
    """A host was switched off on purpose, and its device says that it is off."""


class HostPoweredOn(HealthFact, name="host.powered-on.v1"):
    """A host was switched on; it is up once it beats."""


class HostPowerRefused(HostFact, name="host.power-refused.v1"):
    """A host could not be switched, and is left as it is."""

    power: HostPower
    order: int = Field(default=0, ge=0, description="The one that is answered")
    problem: Problem


class FencedBy(StrEnum):
    """What makes sure that a host's desktops do not run any more."""

    DEVICE = "device"
    """A fence device switched it off and says that it is off."""
    LEASE = "lease"
    """Its own lease ended, with the margin: it has stopped the desktops that are restarted."""
    HUMAN = "human"
    """A person said that they switched it off."""


class FenceScope(StrEnum):
    """Which of a host's desktops are sure not to run."""

    ALL = "all"
    RESTARTED = "restarted"
    """Those whose policy is to be restarted elsewhere; the others may run on."""


class HostFenced(HostFact, name="host.fenced.v1"):
    """Whatever ran on this host before ``at`` runs no more: it may be started elsewhere."""

    incident_id: UUID
    by: FencedBy
    scope: FenceScope
    agent_id: UUID | None = Field(
        default=None, description="The run of its agent that is over; another one is a new start"
    )
    at: Timestamp


class LostDesktop(Body):
    """A desktop that was on a host that was fenced."""

    desktop_id: UUID
    desktop_name: str
    revision: int = Field(ge=1, description="Of the view that says it is gone from there")
    restart: bool
    priority: int


class HostDesktopsLost(HostFact, name="host.desktops-lost.v1"):
    """What inventory took off a fenced host, and what becomes of each."""

    incident_id: UUID
    by: FencedBy | None = Field(default=None, description="Of the fence that this answers")
    desktops: tuple[LostDesktop, ...] = ()
    kept: int | None = Field(
        default=None,
        ge=0,
        description="How many more may still run there: a lease ends not all; null: this answers "
        "no fence, and adds to what was said",
    )


class GuestSize(Body):
    """The largest guest that a host could carry if it were empty; both limits hold at once."""

    vcpus: int = Field(ge=0)
    memory_mib: int = Field(ge=0)

    def carries(self, spec: DesktopSpec) -> bool:
        """Whether a desktop of this hardware is no larger."""
        return spec.vcpus <= self.vcpus and spec.memory_mib <= self.memory_mib


class PlacementLimitsChanged(Event, name="placement.limits-changed.v1"):
    """What placement accepts at most; said again now and then, with the same revision."""

    revision: int = Field(ge=1, description="Grows with every change of the limits")
    largest: tuple[GuestSize, ...] | None = Field(
        default=None,
        description="A guest fits a host when one of these carries it; none while no host is known",
    )
