"""Hosts: what a node tells of itself, what inventory and ha-monitor make of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Body, Event, Telemetry, Timestamp
from roost_common.contracts.desktop import DomainObservation

NodeName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""A host name (RFC 1123); it is part of the node's queue name and routing keys."""


class HostState(StrEnum):
    """A host as inventory sees it."""

    PENDING_APPROVAL = "pending_approval"
    UP = "up"
    MAINTENANCE = "maintenance"
    NON_RESPONSIVE = "non_responsive"
    DOWN = "down"


class Health(StrEnum):
    """A host as ha-monitor's detector sees it."""

    UP = "up"
    SUSPECTED = "suspected"
    DOWN = "down"
    RECOVERED = "recovered"
    """It beats again after having been down, and is watched before it counts as up."""


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
        default=True, description="False while libvirtd does not answer: then absence says nothing"
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


class HostApproved(HostFact, name="host.approved.v1"):
    """An administrator accepted a node."""


class HostMaintenance(HostFact, name="host.maintenance.v1"):
    """A host takes no desktops until it is activated again."""


class HostActivated(HostFact, name="host.activated.v1"):
    """A host in maintenance takes desktops again."""


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
