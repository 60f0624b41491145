"""A desktop as libvirt's domain XML. Pure: the same arguments give the same text.

What a guest can drive comes from `guest_profile`, what the node offers from `host_profile`; here
both are put together. SPICE has its own half in `spice_xml`. The format is libvirt's,
formatdomain.html and its RNG schema; the tests validate every combination against the schema.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from uuid import UUID

from lxml import etree
from lxml.builder import E

from roost_common.contracts.desktop import EnsureDesktop
from roost_common.errors import Invalid
from roost_host_agent.hypervisor import metadata, spice_xml
from roost_host_agent.hypervisor.driver import Mark
from roost_host_agent.hypervisor.guest_profile import PROFILES, GuestProfile
from roost_host_agent.hypervisor.host_profile import (
    HostProfile,
    Network,
    NetworkKind,
    VirtType,
)

DOMAIN_PREFIX: Final = "roost-"
"""Before a desktop's name in libvirt, so that ``virsh list`` shows whose a domain is."""
BALLOON_PERIOD_S: Final = 10
"""How often a guest tells its use of memory; the agent's report is hardly more frequent."""


def render(wanted: EnsureDesktop, host: HostProfile, boot_id: UUID, locked_password: str) -> str:
    """The whole domain, ready for ``defineXML``.

    ``locked_password`` stands in the definition with an expiry long past: without any password
    libvirt would start SPICE open to everybody. Raises `Invalid` (``desktop.disk-missing``) when
    the desktop has no disk.
    """
    if wanted.disk is None:
        raise Invalid(
            "desktop.disk-missing", "Desktop {name} has no disk.", name=wanted.desktop_name
        )
    guest = PROFILES[wanted.template.os]
    mark = Mark(
        desktop_id=wanted.desktop_id,
        name=wanted.desktop_name,
        generation=wanted.generation,
        boot_id=boot_id,
        disk=wanted.disk.path,
        restart=wanted.spec.ha.restart,
    )
    memory = str(wanted.spec.memory_mib)
    domain = E.domain(
        E.name(domain_name(wanted.desktop_name)),
        E.uuid(str(wanted.desktop_id)),
        E.metadata(metadata.to_element(mark)),
        E.memory(memory, unit="MiB"),
        E.currentMemory(memory, unit="MiB"),
        E.vcpu(str(wanted.spec.vcpus), placement="static"),
        _sysinfo(wanted),
        _boot(guest),
        _features(guest, host),
        _cpu(wanted.spec.vcpus, host),
        _clock(guest, host),
        E.on_poweroff("destroy"),
        E.on_reboot("restart"),
        E.on_crash("destroy"),
        # A sleeping desktop would be a black screen that nobody can wake from a client.
        E.pm(E("suspend-to-mem", enabled="no"), E("suspend-to-disk", enabled="no")),
        _devices(wanted, wanted.disk.path, guest, host, locked_password),
        type=host.virt_type.value,
    )
    return etree.tostring(domain, encoding="unicode", pretty_print=True)


def domain_name(desktop_name: str) -> str:
    """A desktop's name in libvirt."""
    return DOMAIN_PREFIX + desktop_name


def mac_address(desktop_id: UUID) -> str:
    """A desktop's MAC address: the same on every host and after every re-definition.

    ``52`` marks it unicast and locally administered (IEEE 802); the other 40 bits come from the
    id. QEMU's ``52:54:00`` would leave 24, in which ten thousand desktops collide.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x52" + sha256(desktop_id.bytes).digest()[:5])


def _sysinfo(wanted: EnsureDesktop) -> etree._Element:
    """What the guest reads in its SMBIOS: who it is, without asking the network."""
    entries = {
        "manufacturer": "Roost",
        "product": "Roost Desktop",
        "serial": wanted.desktop_name,
        "uuid": str(wanted.desktop_id),
        "sku": f"{wanted.template.name}:{wanted.template.version}",
        "family": "roost",
    }
    system = E.system(*(E.entry(value, name=name) for name, value in entries.items()))
    return E.sysinfo(system, type="smbios")


def _boot(guest: GuestProfile) -> etree._Element:
    kind = E.type("hvm", arch="x86_64", machine=guest.machine)
    smbios = E.smbios(mode="sysinfo")
    if not guest.secure_boot:
        return E.os(kind, smbios)
    # libvirt picks the firmware and the template of its variables by QEMU's firmware descriptors.
    firmware = E.firmware(
        E.feature(enabled="yes", name="secure-boot"),
        E.feature(enabled="yes", name="enrolled-keys"),
    )
    return E.os(kind, firmware, smbios, firmware="efi")


def _features(guest: GuestProfile, host: HostProfile) -> etree._Element:
    features = E.features(E.acpi(), E.apic())
    if guest.hyperv and host.virt_type is VirtType.KVM:
        on = {"state": "on"}
        features.append(
            E.hyperv(
                E.relaxed(on),
                E.vapic(on),
                E.spinlocks(on, retries="8191"),
                E.vpindex(on),
                E.runtime(on),
                E.synic(on),
                E.stimer(on),
                E.reset(on),
                E.frequencies(on),
                E.tlbflush(on),
                E.ipi(on),
                mode="custom",
            )
        )
    if guest.secure_boot:
        # Secure Boot's variables are guarded by System Management Mode.
        features.append(E.smm(state="on"))
    return features


def _cpu(vcpus: int, host: HostProfile) -> etree._Element:
    # One socket: client editions of Windows use no more than one or two.
    topology = E.topology(sockets="1", dies="1", cores=str(vcpus), threads="1")
    if host.virt_type is VirtType.KVM:
        return E.cpu(topology, mode=host.cpu_mode.value)
    return E.cpu(E.model("qemu64", fallback="allow"), topology, mode="custom", match="exact")


def _clock(guest: GuestProfile, host: HostProfile) -> etree._Element:
    clock = E.clock(
        # A guest that missed ticks gets them later: its clock stays right under load.
        E.timer(name="rtc", tickpolicy="catchup"),
        E.timer(name="pit", tickpolicy="delay"),
        E.timer(name="hpet", present="no"),
        offset=guest.clock,
    )
    if guest.hyperv and host.virt_type is VirtType.KVM:
        clock.append(E.timer(name="hypervclock", present="yes"))
    return clock


def _devices(
    wanted: EnsureDesktop,
    disk: str,
    guest: GuestProfile,
    host: HostProfile,
    locked_password: str,
) -> etree._Element:
    devices = E.devices(_disk(disk, guest, host))
    devices.extend(_usb_controllers(guest))
    devices.append(_interface(wanted.desktop_id, guest, host.network))
    # A console for people with a shell on the node; costs nothing where nobody opens it.
    devices.append(E.serial(type="pty"))
    devices.append(E.channel(E.target(type="virtio", name="org.qemu.guest_agent.0"), type="unix"))
    # Absolute positions: without a tablet the client's pointer and the guest's drift apart.
    devices.append(E.input(type="tablet", bus="usb"))
    if guest.tpm:
        devices.append(E.tpm(E.backend(type="emulator", version="2.0"), model="tpm-crb"))
    devices.extend(spice_xml.devices(wanted.spec, guest, host, locked_password))
    if guest.virtio_extras:
        devices.append(E.memballoon(E.stats(period=str(BALLOON_PERIOD_S)), model="virtio"))
        devices.append(E.rng(E.backend("/dev/urandom", model="random"), model="virtio"))
    else:
        devices.append(E.memballoon(model="none"))
    if guest.panic is not None:
        devices.append(E.panic(model=guest.panic))
    return devices


def _disk(path: str, guest: GuestProfile, host: HostProfile) -> etree._Element:
    return E.disk(
        E.driver(
            name="qemu",
            type="qcow2",
            cache=host.disk_cache.value,
            # Native AIO blocks the guest on sparse files of network file systems.
            io="threads",
            # What the guest frees comes back to the shared storage.
            discard="unmap",
            # A fault of the storage pauses the guest instead of being passed to its file system.
            error_policy="stop",
            rerror_policy="stop",
        ),
        E.source(file=path),
        E.target(dev=guest.disk_device, bus=guest.disk_bus),
        E.boot(order="1"),
        type="file",
        device="disk",
    )


def _usb_controllers(guest: GuestProfile) -> list[etree._Element]:
    if len(guest.usb) == 1:
        # xHCI's most: the tablet and the redirection channels are on it directly, no hub.
        return [E.controller(type="usb", index="0", model=guest.usb[0], ports="15")]
    first, *companions = guest.usb
    controllers = [E.controller(type="usb", index="0", model=first)]
    for number, model in enumerate(companions):
        master = E.master(startport=str(2 * number))
        controllers.append(E.controller(master, type="usb", index="0", model=model))
    return controllers


def _interface(desktop_id: UUID, guest: GuestProfile, network: Network) -> etree._Element:
    interface = E.interface(E.mac(address=mac_address(desktop_id)), type=network.kind.value)
    if network.kind is NetworkKind.NETWORK:
        interface.append(E.source(network=network.name))
    elif network.kind is NetworkKind.BRIDGE:
        interface.append(E.source(bridge=network.name))
    interface.append(E.model(type=guest.nic_model))
    return interface
