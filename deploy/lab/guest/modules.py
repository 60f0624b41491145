"""Kernel modules: the few that a virtual desktop needs, with those that they depend on."""

import shutil
from pathlib import Path

from guest.tools import BuildError, run

WANTED = (
    # the machine
    "virtio_pci",
    "virtio_balloon",
    "virtio-rng",
    "button",
    # screen
    "qxl",
    "bochs",
    "virtio-gpu",
    # disk: virtio first, the others for a domain that asks for them
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "sd_mod",
    "ext4",
    "crc32c_generic",
    # network and the guest agent's port
    "virtio_net",
    "virtio_console",
    # keyboard and pointer (PS/2 keyboards are built into Debian's kernel)
    "evdev",
    "virtio_input",
    "xhci-pci",
    "ehci-pci",
    "uhci-hcd",
    "usbhid",
    "hid-generic",
)


def copy(tree: Path, root: Path) -> str:
    """Copy the wanted modules from an unpacked kernel into ``root``; the kernel's release."""
    releases = [directory.name for directory in (tree / "lib/modules").iterdir()]
    if len(releases) != 1:
        raise BuildError(f"expected the modules of one kernel, found {releases}")
    (release,) = releases
    source, target = tree / "lib/modules" / release, root / "lib/modules" / release
    run("depmod", "-b", str(tree), release)
    for path in _closure((source / "modules.dep").read_text()):
        copied = target / path
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, copied)
    for index in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(source / index, target / index)
    run("depmod", "-b", str(root), release)
    # The binary indexes are for kmod; busybox reads the text ones.
    for binary in target.glob("modules.*.bin"):
        binary.unlink()
    return release


def _closure(modules_dep: str) -> list[str]:
    """Paths of the wanted modules and their dependencies, from depmod's ``path: path…`` lines."""
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in modules_dep.splitlines():
        path, _, dependencies = line.partition(":")
        needs[path] = dependencies.split()
        path_of[_module_name(path)] = path
    chosen: set[str] = set()
    for name in WANTED:
        if (key := _module_name(name)) not in path_of:
            raise BuildError(f"this kernel has no module {name}")
        path = path_of[key]
        chosen.update([path, *needs[path]])
    return sorted(chosen)


def _module_name(path: str) -> str:
    """Kernel code takes ``-`` and ``_`` in a module's name for the same letter."""
    return Path(path).name.split(".")[0].replace("-", "_")
