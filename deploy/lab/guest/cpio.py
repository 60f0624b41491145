"""The kernel's initramfs archive ("newc", Documentation/driver-api/early-userspace/buffer-format).

Written here and not by cpio(1), so that files belong to root and device nodes exist without the
builder being root, and so that the same tree always gives the same bytes.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"070701"
ALIGNMENT = 4  # bytes, for names and contents


def pack(root: Path) -> bytes:
    """The tree below ``root`` as an archive, with ``/dev/console`` for the kernel to open."""
    entries = bytearray()
    for number, path in enumerate(_walk(root), start=1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            mode, content = stat.S_IFLNK | 0o777, os.fsencode(path.readlink())
        elif stat.S_ISDIR(mode):
            mode, content = stat.S_IFDIR | 0o755, b""
        else:
            executable = mode & stat.S_IXUSR
            mode, content = stat.S_IFREG | (0o755 if executable else 0o644), path.read_bytes()
        entries += _entry(number, str(path.relative_to(root)), mode, content)
    entries += _entry(0, "dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))
    entries += _entry(0, "TRAILER!!!", 0, b"")
    return bytes(entries)


def _walk(root: Path) -> Iterator[Path]:
    """Every path below ``root``, parents first, in an order that does not change."""
    return iter(sorted(root.rglob("*")))


def _entry(
    number: int, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)
) -> bytes:
    encoded = name.encode() + b"\0"
    links, owner, group, mtime = (2 if stat.S_ISDIR(mode) else 1), 0, 0, 0
    fields = (
        number,
        mode,
        owner,
        group,
        links,
        mtime,
        len(content),
        *(0, 0),  # the file's own device
        *device,
        len(encoded),
        0,  # checksum, unused by this variant
    )
    header = MAGIC + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)
