"""Settings of the agent: ``ROOST_HOST_AGENT_…``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from roost_common.contracts.host import NodeName
from roost_common.settings import ServiceSettings
from roost_host_agent import lease_file as lease_files
from roost_host_agent.hypervisor.fake import Personality
from roost_host_agent.hypervisor.host_profile import (
    CpuMode,
    DiskCache,
    HostProfile,
    Network,
    NetworkKind,
    SpiceTls,
    VirtType,
)

SHORTEST_LEASE_S: Final = 10.0
"""A lease must be longer than all nodes need to notice that the bus is away."""


class DriverName(StrEnum):
    """What desktops run on."""

    LIBVIRT = "libvirt"
    FAKE = "fake"


class VirtChoice(StrEnum):
    """How guests are run."""

    AUTO = "auto"
    KVM = "kvm"
    QEMU = "qemu"


class CacheChoice(StrEnum):
    """How a desktop's disk is cached."""

    AUTO = "auto"
    NONE = "none"
    WRITEBACK = "writeback"


class Settings(ServiceSettings):
    """One node."""

    model_config = SettingsConfigDict(env_prefix="ROOST_HOST_AGENT_", extra="forbid", frozen=True)

    node: Annotated[
        NodeName, Field(description="This node's name; its queues and all of Roost call it so")
    ]
    address: Annotated[
        str,
        Field(
            description="Where clients reach this node's SPICE ports; "
            "empty: the address it has towards the bus"
        ),
    ] = ""
    listen: Annotated[
        str, Field(pattern=r"^[^:]+:\d+$", description="host:port of /metrics and /healthz")
    ] = "127.0.0.1:8110"
    driver: Annotated[
        DriverName, Field(description="fake keeps desktops in memory, for benchmarks")
    ] = DriverName.LIBVIRT
    fake_personality: Annotated[Personality, Field(description="How the fake driver behaves")] = (
        Personality.NORMAL
    )
    libvirt_uri: Annotated[str, Field(description="Which libvirtd")] = "qemu:///system"
    virt_type: Annotated[
        VirtChoice,
        Field(description="auto: KVM if libvirt offers it and the processor has vmx or svm"),
    ] = VirtChoice.AUTO
    cpu_mode: Annotated[
        CpuMode,
        Field(description="host-model lets guests move between hosts of a kind"),
    ] = CpuMode.HOST_MODEL
    spice_listen: Annotated[
        str, Field(description="Address SPICE servers bind; empty: the node's address")
    ] = ""
    spice_tls: Annotated[
        SpiceTls,
        Field(
            description="Ports a desktop opens: plain (off), plain and TLS (both), TLS (required); "
            "TLS needs spice_tls=1 in libvirt's qemu.conf"
        ),
    ] = SpiceTls.BOTH
    spice_ca_file: Annotated[
        Path | None, Field(description="PEM of who signed the SPICE certificate, for clients")
    ] = None
    spice_host_subject: Annotated[
        str, Field(description="Subject of the SPICE certificate, for clients")
    ] = ""
    network: Annotated[
        str,
        Field(
            pattern=r"^(user|network:.+|bridge:.+)$",
            description="Guests' network: user (QEMU's own), network:NAME of libvirt, bridge:NAME",
        ),
    ] = "user"
    disk_cache: Annotated[
        CacheChoice,
        Field(description="auto: none (O_DIRECT) where the file system can, else writeback"),
    ] = CacheChoice.AUTO
    migration_uri: Annotated[
        str,
        Field(
            pattern=r"^[a-z+]+://[^{}]*\{address\}[^{}]*$",
            description="How this node's libvirtd reaches another's; {address} stands for that "
            "node's address. libvirt's TLS needs its certificates on every node",
        ),
    ] = "qemu+tls://{address}/system"
    migration_tls: Annotated[
        bool,
        Field(
            description="Guests' memory travels encrypted; needs migrate_tls_x509_cert_dir in "
            "libvirt's qemu.conf, and costs processor time. Else it travels as it is"
        ),
    ] = False
    storage_shared: Annotated[
        bool,
        Field(
            description="Move guests though libvirt does not see that their disks are on storage "
            "that all hosts share: it knows NFS and cluster file systems, nothing else. A lie "
            "here costs disks"
        ),
    ] = False
    beat_interval_s: Annotated[
        float, Field(gt=0, le=10, description="Seconds between beats; ha-monitor expects 1")
    ] = 1.0
    report_interval_s: Annotated[
        float, Field(gt=0, le=300, description="Seconds between full reports")
    ] = 5.0
    starts_at_once: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="Desktops that start at the same time; the others wait in the order of "
            "their commands. Default: one per processor, at least two",
        ),
    ] = max(2, os.cpu_count() or 1)
    lease_s: Annotated[
        float,
        Field(
            le=3600,
            description="Seconds without ha-monitor after which this node stops the desktops that "
            "are restarted elsewhere, so that they can be restarted without a fence device; at "
            "least 10, or 0 for no lease. It counts only while the guard runs",
        ),
    ] = 45.0
    ha_dir: Annotated[
        Path | None,
        Field(
            description="Directory on storage that all hosts share, where they see each other when "
            "the bus is away: then nobody stops anything. Without it, or while it cannot be read, "
            "a lease ends when its time has come. On NFS mount it with acdirmax=3"
        ),
    ] = None
    lease_file: Annotated[
        Path | None,
        Field(
            description="What the guard (python -m roost_host_agent.guard) reads, on a local file "
            f"system that a reboot empties; not set: {lease_files.DEFAULT}, and none with the fake "
            "driver"
        ),
    ] = None

    @field_validator("lease_s")
    @classmethod
    def _long_enough(cls, value: float) -> float:
        if value != 0 and value < SHORTEST_LEASE_S:
            raise ValueError(f"0, or at least {SHORTEST_LEASE_S:g}")
        return value

    @model_validator(mode="after")
    def _kvm_or_not(self) -> Self:
        if self.driver is DriverName.FAKE and self.virt_type is VirtChoice.KVM:
            raise ValueError("the fake driver has no KVM")
        return self

    @property
    def wished_virt_type(self) -> VirtType | None:
        """None where the driver is to find out."""
        return None if self.virt_type is VirtChoice.AUTO else VirtType(self.virt_type.value)

    @property
    def guarded_file(self) -> Path | None:
        """The lease file; None where there are no processes to guard."""
        if self.lease_file is None and self.driver is DriverName.LIBVIRT:
            return lease_files.DEFAULT
        return self.lease_file

    def profile(self, address: str) -> HostProfile:
        """The node's part of a domain's definition."""
        kind, _, name = self.network.partition(":")
        writeback = self.disk_cache is CacheChoice.WRITEBACK
        return HostProfile(
            virt_type=self.wished_virt_type or VirtType.QEMU,
            spice_listen=self.spice_listen or address,
            spice_tls=self.spice_tls,
            cpu_mode=self.cpu_mode,
            network=Network(NetworkKind(kind), name),
            disk_cache=DiskCache.WRITEBACK if writeback else DiskCache.NONE,
        )
