"""The guest's root file system, which lives in its initramfs."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from guest import libraries, modules
from guest.packages import Package
from guest.tools import output_of

FOLDERS = ("bin", "data", "dev", "proc", "root", "run", "sys", "tmp", "var/lib/roost", "var/run")
AGENT = "usr/sbin/qemu-ga"


def assemble(tree: Path, root: Path, *, skeleton: Path, packages: Iterable[Package]) -> None:
    """Fill ``root`` from unpacked packages and the files that are the guest's own."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(skeleton, root)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    _busybox(tree, root)
    libraries.copy_program(tree, root, AGENT)
    modules.copy(tree, root)
    applications = "".join(f"{package.name} {package.version}\n" for package in sorted(packages))
    (root / "var/lib/roost/applications").write_text(applications)


def _busybox(tree: Path, root: Path) -> None:
    busybox = root / "bin/busybox"
    shutil.copy(tree / "bin/busybox", busybox)
    for applet in output_of(str(busybox), "--list-full").split():
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        # The guest's own programs and busybox itself stay.
        if not link.exists():
            link.symlink_to("/bin/busybox")
    (root / "init").symlink_to("/bin/busybox")
