"""Which virtual hardware each family of guests can drive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost_common.contracts.spec import OsFamily


@dataclass(frozen=True, slots=True)
class GuestProfile:
    """The hardware of one family of operating systems, in libvirt's words."""

    machine: str
    disk_bus: str
    disk_device: str
    nic_model: str
    sound_model: str
    usb: tuple[str, ...]
    """Models of the USB controllers, the master first."""
    secure_boot: bool = False
    """UEFI with Secure Boot and Microsoft's keys, instead of BIOS."""
    tpm: bool = False
    hyperv: bool = False
    """Hyper-V enlightenments; they exist under KVM only."""
    clock: str = "utc"
    qxl_per_head: bool = False
    """One QXL device per monitor; otherwise one device with all heads."""
    virtio_extras: bool = True
    """Entropy and balloon devices, for which the guest has drivers."""
    panic: str | None = None
    """Model of the device through which a guest tells that its kernel died."""


_WINDOWS_10: Final = GuestProfile(
    machine="q35",
    # SATA and e1000e work with what is on the installation medium; virtio needs drivers slipped
    # into the image first, which an imported template may not have.
    disk_bus="sata",
    disk_device="sda",
    nic_model="e1000e",
    sound_model="ich9",
    usb=("qemu-xhci",),
    hyperv=True,
    # Windows keeps the hardware clock in local time.
    clock="localtime",
    # The QXL-WDDM-DOD driver, as the XPDM one before it, drives one monitor per device.
    qxl_per_head=True,
)

PROFILES: Final[dict[OsFamily, GuestProfile]] = {
    OsFamily.LINUX: GuestProfile(
        machine="q35",
        disk_bus="virtio",
        disk_device="vda",
        nic_model="virtio",
        sound_model="ich9",
        usb=("qemu-xhci",),
        panic="isa",
    ),
    OsFamily.WINDOWS_10: _WINDOWS_10,
    OsFamily.WINDOWS_11: GuestProfile(
        machine="q35",
        disk_bus="sata",
        disk_device="sda",
        nic_model="e1000e",
        sound_model="ich9",
        usb=("qemu-xhci",),
        # Windows 11 does not install without both.
        secure_boot=True,
        tpm=True,
        hyperv=True,
        clock="localtime",
        qxl_per_head=True,
    ),
    OsFamily.WINDOWS_XP: GuestProfile(
        # XP has no driver for q35's AHCI, for e1000e, HDA sound (before SP3) or xHCI.
        machine="pc",
        disk_bus="ide",
        disk_device="hda",
        nic_model="rtl8139",
        sound_model="ac97",
        usb=("ich9-ehci1", "ich9-uhci1", "ich9-uhci2", "ich9-uhci3"),
        clock="localtime",
        qxl_per_head=True,
        virtio_extras=False,
    ),
}


@dataclass(frozen=True, slots=True)
class QxlMemory:
    """Sizes of one QXL device, in KiB as libvirt wants them."""

    ram: int
    vram: int
    vgamem: int


_HEAD_KIB: Final = 16 * 1024
"""One monitor of 2560x1600 at 32 bits a pixel, 15.6 MiB, as a power of two."""


def qxl_memory(heads: int, *, per_head: bool) -> QxlMemory:
    """Sizes of a QXL device with ``heads`` monitors (of each device, when one per head).

    Source: oVirt, "Video RAM" (https://www.ovirt.org/develop/internal/video-ram.html) for the
    proportions, QEMU ``hw/display/qxl.c`` ``qxl_init_ramsize`` for the rounding. ``vgamem`` holds
    the primary surface of all heads side by side and is rounded up to a power of two by QEMU;
    ``ram``, the bar it lies in, is four times as much; ``vram`` (further surfaces) is twice
    ``vgamem`` for Linux's KMS driver and of no matter to Windows. Four heads make 64 + 256 + 128
    MiB of address space, touched only as far as the guest draws.
    """
    if per_head:
        return QxlMemory(ram=4 * _HEAD_KIB, vram=8 * 1024, vgamem=_HEAD_KIB)
    vgamem = _HEAD_KIB * (1 << (heads - 1).bit_length())
    return QxlMemory(ram=4 * vgamem, vram=2 * vgamem, vgamem=vgamem)
