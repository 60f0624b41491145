"""What a node adds to a desktop's hardware: how it virtualises, listens, stores and connects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VirtType(StrEnum):
    """Libvirt's domain type."""

    KVM = "kvm"
    QEMU = "qemu"
    """Software emulation (TCG)."""
    TEST = "test"
    """Libvirt's own mock hypervisor, ``test:///default``."""


class CpuMode(StrEnum):
    """Which processor a guest under KVM sees."""

    HOST_MODEL = "host-model"
    """The nearest named model: a guest can move to hosts of the same or a newer kind."""
    HOST_PASSTHROUGH = "host-passthrough"
    """The host's own, to the last feature; moves only between equal hosts."""


class SpiceTls(StrEnum):
    """Which SPICE ports a desktop opens. TLS needs ``spice_tls=1`` in libvirt's qemu.conf."""

    OFF = "off"
    BOTH = "both"
    REQUIRED = "required"


class NetworkKind(StrEnum):
    """What a guest's network card is plugged into."""

    USER = "user"
    """QEMU's own user-mode network: outbound only, no privileges. For labs."""
    NETWORK = "network"
    """A libvirt network, by name."""
    BRIDGE = "bridge"
    """A bridge of the host, by name."""


class DiskCache(StrEnum):
    """QEMU's cache mode of a desktop's disk."""

    NONE = "none"
    """O_DIRECT: no double caching, and the only mode that is safe to migrate live."""
    WRITEBACK = "writeback"
    """Through the host's page cache, for file systems without O_DIRECT."""


@dataclass(frozen=True, slots=True)
class Network:
    """Where guests are plugged in; ``name`` is empty for user-mode."""

    kind: NetworkKind = NetworkKind.USER
    name: str = ""


@dataclass(frozen=True, slots=True)
class HostProfile:
    """One node's answers."""

    virt_type: VirtType
    spice_listen: str
    """Address that SPICE servers bind."""
    spice_tls: SpiceTls = SpiceTls.OFF
    cpu_mode: CpuMode = CpuMode.HOST_MODEL
    network: Network = Network()
    disk_cache: DiskCache = DiskCache.NONE
