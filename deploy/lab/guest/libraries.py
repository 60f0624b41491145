"""Shared libraries: what a program from an unpacked package loads when it starts."""

import shutil
from pathlib import Path

from guest.tools import BuildError, output_of

LOADER = "lib64/ld-linux-x86-64.so.2"
FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def copy_program(tree: Path, root: Path, program: str) -> None:
    """Copy ``program`` and its libraries from ``tree`` to the same places below ``root``.

    The unpacked packages' own loader resolves them, so this machine's libraries play no part.
    """
    for path in (LOADER, program, *_libraries(tree, program)):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / path, target)


def _libraries(tree: Path, program: str) -> list[str]:
    search_path = ":".join(str(tree / folder) for folder in FOLDERS)
    listing = output_of(
        str(tree / LOADER), "--library-path", search_path, "--list", str(tree / program)
    )
    found = []
    # Lines are "libc.so.6 => /tree/lib/x86_64-linux-gnu/libc.so.6 (0x…)", the kernel's own
    # linux-vdso and the loader come without an arrow.
    for line in listing.splitlines():
        name, arrow, resolved = line.strip().partition(" => ")
        if not arrow:
            continue
        path = Path(resolved.rsplit(" (", 1)[0])
        if not path.is_relative_to(tree):
            raise BuildError(f"{program} needs {name}, which no unpacked package brings")
        found.append(str(path.relative_to(tree)))
    return found
