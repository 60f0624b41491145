"""What HTTP takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DesktopState,
    DomainStats,
    GuestInfo,
    Name,
    Power,
)
from roost_common.contracts.host import Health, HostState, HostStats
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.http import ApiModel
from roost_inventory.model import Administrative, Desktop, Host, Migration, Reading
from roost_inventory.model.migration import Cause, MigrationState

TemplateName = Annotated[str, Field(min_length=1, max_length=255)]


class DesktopCreate(ApiModel):
    """A desktop to be made."""

    name: Name
    template: TemplateRef | TemplateName = Field(
        description="A version, or the name or id of a template, whose newest version is taken"
    )
    spec: DesktopSpec = DesktopSpec()
    power: Power = Field(default=Power.ON, description="Whether it is started when it is ready")


class DesktopPatch(ApiModel):
    """A change of a desktop; its hardware changes at its next start, what is absent stays."""

    spec: DesktopSpec


class ShutdownRequest(ApiModel):
    """How a guest is asked to shut down."""

    grace_s: Annotated[int, Field(ge=0, le=3600)] | None = Field(
        default=None, description="Seconds until its power is cut; the site's default if not given"
    )


class RebootRequest(ApiModel):
    """How a guest is restarted."""

    force: bool = Field(default=False, description="Press reset instead of asking the guest")


class ReimageRequest(ApiModel):
    """What a desktop gets with its fresh disk."""

    template: TemplateRef | TemplateName | None = Field(
        default=None, description="Another version from now on; the present one if not given"
    )
    power: Power | None = Field(
        default=None, description="What it is afterwards; as it should be now if not given"
    )


class DesktopAnswer(ApiModel):
    """A desktop."""

    id: UUID
    name: str
    state: DesktopState
    power: Power
    generation: int
    revision: int
    host: str | None
    migrating_to: str | None
    pool: str | None
    pool_id: UUID | None
    template: TemplateRef
    disk_generation: int
    spec: DesktopSpec
    users: list[str]
    boot_id: UUID | None
    problem: Problem | None
    guest: GuestInfo | None
    stats: DomainStats | None
    created_at: datetime

    @classmethod
    def of(
        cls, desktop: Desktop, pool: str | None, users: list[str], reading: Reading | None
    ) -> DesktopAnswer:
        """A desktop with what is known of it elsewhere."""
        return cls(
            id=desktop.id,
            name=desktop.name,
            state=desktop.state,
            power=desktop.power,
            generation=desktop.generation,
            revision=desktop.revision,
            host=desktop.host,
            migrating_to=desktop.migrating_to,
            pool=pool,
            pool_id=desktop.pool_id,
            template=desktop.template,
            disk_generation=desktop.disk_generation,
            spec=desktop.spec,
            users=users,
            boot_id=desktop.boot_id,
            problem=desktop.problem,
            guest=reading.guest if reading else None,
            stats=reading.stats if reading and desktop.boot_id else None,
            created_at=desktop.created_at,
        )


class MigrateRequest(ApiModel):
    """Where a desktop is moved."""

    host: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Id or name; the one with the most room if not given"
    )


class MigrationAnswer(ApiModel):
    """A desktop's way from one host to another."""

    model_config = ConfigDict(populate_by_name=True)

    id: UUID
    state: MigrationState
    percent: float
    desktop_id: UUID
    desktop: str
    from_: str = Field(alias="from")
    to: str
    cause: Cause
    reason: str
    problem: Problem | None
    created_at: datetime
    deadline_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, migration: Migration) -> MigrationAnswer:
        """A migration as far as it is known."""
        return cls(
            id=migration.id,
            state=migration.state,
            percent=migration.percent,
            desktop_id=migration.desktop_id,
            desktop=migration.desktop_name,
            from_=migration.source,
            to=migration.target,
            cause=migration.cause,
            reason=migration.reason,
            problem=migration.problem,
            created_at=migration.created_at,
            deadline_at=migration.deadline_at,
            ended_at=migration.ended_at,
        )


class EvacuationAnswer(ApiModel):
    """How far a host is from being empty."""

    since: datetime
    left: int = Field(description="Desktops that are there, or still on their way to it")
    moving: int
    problem: Problem | None


class Reserved(ApiModel):
    """What a host's desktops were promised."""

    vcpus: int
    memory_mib: int


class HostPatch(ApiModel):
    """A change of a host."""

    cluster: str = Field(min_length=1, max_length=63, description="Id or name of a cluster")


class HostAnswer(ApiModel):
    """A host."""

    id: UUID
    name: str
    cluster: str
    state: HostState
    administrative: Administrative
    health: Health
    address: str
    cpus: int
    memory_mib: int
    max_vcpus: int
    cpu_model: str
    virt_type: str
    spice: bool
    versions: dict[str, str]
    desktops: int
    evacuation: EvacuationAnswer | None = Field(
        description="While the host is prepared for maintenance"
    )
    reserved: Reserved
    stats: HostStats
    reported_at: datetime
    created_at: datetime
    approved_at: datetime | None

    @classmethod
    def of(
        cls,
        host: Host,
        cluster: str,
        desktops: int,
        reserved: tuple[int, int],
        evacuation: EvacuationAnswer | None,
    ) -> HostAnswer:
        """A host with what it carries."""
        can = host.capabilities
        return cls(
            id=host.id,
            name=host.name,
            cluster=cluster,
            state=host.state,
            administrative=host.administrative,
            health=host.health,
            address=host.address,
            cpus=can.cpus,
            memory_mib=can.memory_mib,
            max_vcpus=can.max_vcpus,
            cpu_model=can.cpu_model,
            virt_type=can.virt_type,
            spice=can.spice,
            versions={
                "agent": can.agent_version,
                "libvirt": can.libvirt_version,
                "qemu": can.qemu_version,
            },
            desktops=desktops,
            evacuation=evacuation,
            reserved=Reserved(vcpus=reserved[0], memory_mib=reserved[1]),
            stats=host.stats,
            reported_at=host.reported_at,
            created_at=host.created_at,
            approved_at=host.approved_at,
        )
