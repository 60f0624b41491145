"""What a node can do, asked of libvirt. `read` blocks; the rest is pure."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import libvirt
from lxml import etree

from roost_common.contracts.host import HostCapabilities
from roost_host_agent.hypervisor.domain_facts import parse
from roost_host_agent.hypervisor.host_profile import VirtType

ARCH: Final = "x86_64"
MACHINE: Final = "q35"
MAX_VCPUS: Final = 255
"""More need an interrupt-remapping IOMMU in the guest, which no profile has."""
_CPU_INFO: Final = Path("/proc/cpuinfo")


def read(conn: libvirt.virConnect, wished: VirtType | None) -> HostCapabilities:
    """The node's capabilities with ``wished`` virtualisation, or the best it has.

    ``/dev/kvm`` alone proves nothing: there are machines where the device exists and firmware
    runs, but no ordinary kernel does. KVM is chosen only when libvirt offers it *and* the
    processor says vmx or svm.
    """
    _model, memory_mib, cpus, *_ = conn.getInfo()
    common = HostCapabilities(
        cpus=cpus,
        memory_mib=memory_mib,
        virt_type=VirtType.TEST.value,
        max_vcpus=MAX_VCPUS,
        libvirt_version=dotted(conn.getLibVersion()),
        agent_version=version("roost-host-agent"),
    )
    if conn.getType() != "QEMU":
        return common
    virt_type = wished or _best(conn, _CPU_INFO.read_text())
    domain = parse(conn.getDomainCapabilities(None, ARCH, MACHINE, virt_type.value, 0))
    return common.model_copy(
        update={
            "virt_type": virt_type.value,
            "cpu_model": parse(conn.getCapabilities()).findtext("host/cpu/model") or "",
            "max_vcpus": min(_max_vcpus(domain), MAX_VCPUS),
            "spice": offers_spice(domain),
            "machine_types": machine_types(parse(conn.getCapabilities()), virt_type),
            "qemu_version": dotted(conn.getVersion()),
        }
    )


def has_virtualisation(cpu_info: str) -> bool:
    """Whether ``/proc/cpuinfo`` shows Intel VT-x or AMD-V."""
    flags = {
        flag
        for line in cpu_info.splitlines()
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }
    return bool(flags & {"vmx", "svm"})


def offers_spice(domain_capabilities: etree._Element) -> bool:
    """Whether this QEMU was built with SPICE."""
    values = domain_capabilities.findall("devices/graphics/enum[@name='type']/value")
    return any(value.text == "spice" for value in values)


def machine_types(capabilities: etree._Element, virt_type: VirtType) -> tuple[str, ...]:
    """Machine types of this QEMU for our architecture, canonical names, sorted.

    Live migration wants the same one at both ends.
    """
    arch = f"guest/arch[@name='{ARCH}']"
    found = {
        element.get("canonical") or element.text or ""
        for path in (f"{arch}/machine", f"{arch}/domain[@type='{virt_type.value}']/machine")
        for element in capabilities.findall(path)
    }
    return tuple(sorted(name for name in found if name.startswith(("pc-q35", "pc-i440fx"))))


def dotted(number: int) -> str:
    """libvirt's version number, major * 1 000 000 + minor * 1 000 + release, as people write it."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def _best(conn: libvirt.virConnect, cpu_info: str) -> VirtType:
    if not has_virtualisation(cpu_info):
        return VirtType.QEMU
    kinds = parse(conn.getCapabilities()).findall(f"guest/arch[@name='{ARCH}']/domain")
    offered = any(kind.get("type") == VirtType.KVM.value for kind in kinds)
    return VirtType.KVM if offered else VirtType.QEMU


def _max_vcpus(domain_capabilities: etree._Element) -> int:
    vcpu = domain_capabilities.find("vcpu")
    return int(vcpu.get("max", "1")) if vcpu is not None else 1
