"""Every desktop that can be asked for makes a domain that libvirt's own schema accepts."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from uuid import UUID

import pytest
from lxml import etree
from tests.needs import lacking
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.spec import DesktopSpec, DisplayPolicy, Link, OsFamily
from roost_common.errors import Invalid
from roost_host_agent.hypervisor.domain_xml import mac_address, render
from roost_host_agent.hypervisor.guest_profile import qxl_memory
from roost_host_agent.hypervisor.host_profile import (
    CpuMode,
    DiskCache,
    HostProfile,
    Network,
    NetworkKind,
    SpiceTls,
    VirtType,
)
from roost_host_agent.hypervisor.metadata import from_domain

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
DESKTOP = UUID("11111111-2222-4333-8444-555555555555")
BOOT = UUID("99999999-2222-4333-8444-555555555555")
HOST = HostProfile(virt_type=VirtType.KVM, spice_listen="192.0.2.10")


def domain(
    host: HostProfile = HOST, os: OsFamily = OsFamily.LINUX, **spec: object
) -> etree._Element:
    command = wanted(
        DESKTOP, generation=7, os=os, disk="/s/d.qcow2", spec=DesktopSpec.model_validate(spec)
    )
    return etree.fromstring(render(command, host, BOOT, "locked"))


def value(element: etree._Element, path: str, attribute: str) -> str | None:
    found = element.find(path)
    assert found is not None, path
    return found.get(attribute)


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    if not SCHEMA.exists():
        lacking("libvirt's schemas")
    return etree.RelaxNG(etree.parse(SCHEMA))


@pytest.mark.parametrize("os", OsFamily)
@pytest.mark.parametrize("virt_type", [VirtType.KVM, VirtType.QEMU])
def test_every_combination_is_valid(
    os: OsFamily, virt_type: VirtType, schema: etree.RelaxNG
) -> None:
    for monitors, link, allowed, tls in product(range(1, 5), Link, (True, False), SpiceTls):
        policy = DisplayPolicy(
            link=link, clipboard=allowed, file_transfer=allowed, usb=allowed, sound=allowed
        )
        host = HostProfile(virt_type=virt_type, spice_listen="192.0.2.10", spice_tls=tls)
        found = domain(host, os=os, monitors=monitors, display=policy)
        schema.assertValid(found)


@pytest.mark.parametrize(
    "host",
    [
        HostProfile(VirtType.KVM, "0.0.0.0", cpu_mode=CpuMode.HOST_PASSTHROUGH),
        HostProfile(VirtType.KVM, "::", network=Network(NetworkKind.BRIDGE, "br0")),
        HostProfile(VirtType.KVM, "::", network=Network(NetworkKind.NETWORK, "default")),
        HostProfile(VirtType.KVM, "::", disk_cache=DiskCache.WRITEBACK),
    ],
)
def test_every_host_is_valid(host: HostProfile, schema: etree.RelaxNG) -> None:
    schema.assertValid(domain(host))


def test_a_desktop_knows_itself_and_its_mark() -> None:
    found = domain()
    entries = {e.get("name"): e.text for e in found.findall("sysinfo/system/entry")}
    name = f"d-{DESKTOP.hex[:12]}"
    assert entries == {
        "manufacturer": "Roost",
        "product": "Roost Desktop",
        "serial": name,
        "uuid": str(DESKTOP),
        "sku": "tiny:3",
        "family": "roost",
    }
    assert found.findtext("uuid") == str(DESKTOP)
    assert found.findtext("name") == f"roost-{name}"
    mark = from_domain(found)
    assert mark is not None
    assert (mark.desktop_id, mark.generation, mark.boot_id, mark.disk) == (
        DESKTOP,
        7,
        BOOT,
        "/s/d.qcow2",
    )


@pytest.mark.parametrize(
    ("os", "expected"),
    [
        (OsFamily.LINUX, ("q35", "virtio", "virtio", "ich9", "utc")),
        (OsFamily.WINDOWS_10, ("q35", "sata", "e1000e", "ich9", "localtime")),
        (OsFamily.WINDOWS_11, ("q35", "sata", "e1000e", "ich9", "localtime")),
        (OsFamily.WINDOWS_XP, ("pc", "ide", "rtl8139", "ac97", "localtime")),
    ],
)
def test_hardware_fits_the_guest(os: OsFamily, expected: tuple[str, ...]) -> None:
    found = domain(os=os)
    assert expected == (
        value(found, "os/type", "machine"),
        value(found, "devices/disk/target", "bus"),
        value(found, "devices/interface/model", "type"),
        value(found, "devices/sound", "model"),
        value(found, "clock", "offset"),
    )


def test_windows_11_has_secure_boot_and_a_tpm_and_nobody_else_has() -> None:
    for os in OsFamily:
        found, wants = domain(os=os), os is OsFamily.WINDOWS_11
        assert (value(found, "os", "firmware") == "efi") is wants
        assert (found.find("features/smm") is not None) is wants
        assert (found.find("devices/tpm/backend[@version='2.0']") is not None) is wants


def test_enlightenments_come_with_kvm_and_modern_windows_only() -> None:
    emulated = HostProfile(virt_type=VirtType.QEMU, spice_listen="::")
    for os in OsFamily:
        modern = os in {OsFamily.WINDOWS_10, OsFamily.WINDOWS_11}
        assert (domain(os=os).find("features/hyperv") is not None) is modern
        assert domain(emulated, os=os).find("features/hyperv") is None
        assert domain(emulated, os=os).findtext("cpu/model") == "qemu64"


@pytest.mark.parametrize("monitors", [1, 2, 3, 4])
def test_monitors_are_heads_of_one_card_on_linux_and_cards_on_windows(monitors: int) -> None:
    linux = domain(monitors=monitors).findall("devices/video/model")
    windows = domain(os=OsFamily.WINDOWS_10, monitors=monitors).findall("devices/video/model")
    assert [model.get("heads") for model in linux] == [str(monitors)]
    assert [model.get("heads") for model in windows] == ["1"] * monitors
    assert [model.get("primary") for model in windows] == ["yes"] + [None] * (monitors - 1)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_video_memory_holds_all_heads(heads: int) -> None:
    memory = qxl_memory(heads, per_head=False)
    assert memory.vgamem * 1024 >= heads * 2560 * 1600 * 4
    assert memory.vgamem & (memory.vgamem - 1) == 0
    assert memory.ram == 4 * memory.vgamem
    assert memory.vram == 2 * memory.vgamem
    assert qxl_memory(heads, per_head=True) == qxl_memory(1, per_head=True)


def test_nobody_gets_in_before_a_screen_is_opened() -> None:
    assert value(domain(), "devices/graphics", "passwd")
    assert value(domain(), "devices/graphics", "passwdValidTo") == "1970-01-01T00:00:01"


@pytest.mark.parametrize(
    ("tls", "mode"),
    [(SpiceTls.OFF, "insecure"), (SpiceTls.BOTH, "any"), (SpiceTls.REQUIRED, "secure")],
)
def test_tls_is_the_hosts_choice(tls: SpiceTls, mode: str) -> None:
    host = HostProfile(virt_type=VirtType.KVM, spice_listen="::", spice_tls=tls)
    assert value(domain(host), "devices/graphics", "defaultMode") == mode


def test_policy_takes_devices_away() -> None:
    free, bound = (
        domain(),
        domain(display=DisplayPolicy(clipboard=False, file_transfer=False, usb=False, sound=False)),
    )
    assert len(free.findall("devices/redirdev")) == 4
    assert bound.findall("devices/redirdev") == []
    assert free.find("devices/sound") is not None
    assert bound.find("devices/sound") is None
    assert value(free, "devices/graphics/clipboard", "copypaste") == "yes"
    assert value(bound, "devices/graphics/clipboard", "copypaste") == "no"
    assert value(bound, "devices/graphics/filetransfer", "enable") == "no"


def test_a_thin_link_compresses_and_a_fat_one_spares_the_processor() -> None:
    wan = domain(display=DisplayPolicy(link=Link.WAN))
    lan = domain(display=DisplayPolicy(link=Link.LAN))
    assert value(wan, "devices/graphics/jpeg", "compression") == "always"
    assert value(lan, "devices/graphics/jpeg", "compression") == "never"
    assert value(lan, "devices/graphics/image", "compression") == "lz"


def test_mac_addresses_are_stable_local_and_different() -> None:
    addresses = {mac_address(UUID(int=number)) for number in range(20_000)}
    assert len(addresses) == 20_000
    assert mac_address(DESKTOP) == mac_address(DESKTOP)
    first = int(mac_address(DESKTOP).split(":")[0], 16)
    assert first & 0b11 == 0b10  # unicast, locally administered


def test_a_desktop_without_a_disk_has_no_domain() -> None:
    with pytest.raises(Invalid):
        render(wanted(disk=None), HOST, BOOT, "locked")
