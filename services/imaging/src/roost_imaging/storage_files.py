"""What is done to the files of a storage domain. Everything here may hang: call it in a lane.

A domain is never touched before its marker has been read: the directory under an unmounted NFS
export looks just like an empty domain, and filling it would hide every desktop's disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from roost_common.errors import Conflict, Invalid, NoCapacity, RoostError, Unavailable
from roost_imaging import layout as names
from roost_imaging.layout import Layout

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY: Final = 0o444
_BLOCK: Final = 512
"""The unit of st_blocks, whatever the file system's own (stat(2))."""
_NAME_MAX: Final = 255
"""Bytes of one name, on every file system in use: limits.h."""
STALE_S: Final = 900.0
"""No overlay is in the making this long: its file is a leftover."""


@dataclass(frozen=True)
class Capacity:
    """Bytes of a file system; ``free`` is what this service may take."""

    total: int
    used: int
    free: int


def translate(error: OSError) -> RoostError:
    """The error of ours that a storage's failure means."""
    if error.errno in _FULL:
        return NoCapacity("storage.full", "The storage is full.")
    return Unavailable(
        "storage.unavailable", "The storage fails: {reason}.",
        reason=error.strerror or type(error).__name__,
    )  # fmt: skip


@contextmanager
def translated() -> Iterator[None]:
    """Failures of the storage inside the block leave it as errors of ours."""
    try:
        yield
    except OSError as error:
        raise translate(error) from error


# --- the domain -------------------------------------------------------------------------------


def parts_of(path: str, storage_root: Path) -> tuple[str, ...]:
    """The components of a domain's path below the storage root. Pure.

    Raises `Invalid` (``storage.path-outside``, ``storage.path-too-long``).
    """
    given = Path(path)
    if any(len(os.fsencode(part)) > _NAME_MAX for part in given.parts):
        raise Invalid(
            "storage.path-too-long", "A name in it is longer than {n} bytes.", n=_NAME_MAX
        )
    if any(ord(letter) < 32 for letter in path) or ".." in given.parts:
        raise _outside(path, storage_root)
    if given.is_absolute():
        if not given.is_relative_to(storage_root):
            raise _outside(path, storage_root)
        given = given.relative_to(storage_root)
    return given.parts


def create_domain(parts: Sequence[str], storage_root: Path, storage_id: UUID) -> Capacity:
    """Make the directory (as far as it is missing) and mark it as this domain's.

    No component may be a symlink. Raises `Invalid` (``storage.not-a-directory``), `Conflict`
    (``storage.path-taken``) when it bears a mark already.
    """
    with translated():
        directory = os.open(storage_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in parts:
                below = _enter(directory, name)
                os.close(directory)
                directory = below
            _mark(directory, storage_id)
            for name in (names.TEMPLATES, names.DESKTOPS):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=directory)
            os.fsync(directory)
            return _capacity(os.fstatvfs(directory))
        finally:
            os.close(directory)


def _enter(directory: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=directory)
    try:
        return os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
        )
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Invalid(
                "storage.not-a-directory", "{name} is not a directory.", name=name
            ) from error
        raise


def _mark(directory: int, storage_id: UUID) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(names.MARKER, flags, 0o644, dir_fd=directory)
    except FileExistsError as error:
        raise Conflict(
            "storage.path-taken",
            "This directory bears the mark of a storage domain: {marker}.",
            marker=names.MARKER,
        ) from error
    try:
        os.write(fd, f"{storage_id}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_domain(layout: Layout) -> None:
    """Take the mark away, and directories that are empty; nothing else is touched."""
    with translated():
        require_mounted(layout)
        for directory in (layout.templates, layout.desktops):
            _remove_if_empty(directory)
        layout.marker.unlink()
        _remove_if_empty(layout.root)


def require_mounted(layout: Layout) -> None:
    """Raises `Unavailable` (``storage.unavailable``) unless this is the domain it should be."""
    try:
        found = layout.marker.read_text().strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if found != str(layout.storage_id):
        raise Unavailable("storage.unavailable", "The storage domain is not mounted here.")


def capacity(layout: Layout) -> Capacity:
    """How large it is, how much is free."""
    with translated():
        require_mounted(layout)
        return _capacity(os.statvfs(layout.root))


def require_free(layout: Layout, needed: int, reserve: int) -> None:
    """Raises `NoCapacity` (``storage.full``) unless ``needed`` leaves the reserve untouched."""
    if capacity(layout).free < needed + reserve:
        raise NoCapacity("storage.full", "The storage domain has no space left for it.")


def _capacity(status: os.statvfs_result) -> Capacity:
    return Capacity(
        total=status.f_blocks * status.f_frsize,
        used=(status.f_blocks - status.f_bfree) * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
    )


# --- files ------------------------------------------------------------------------------------


def used_bytes(path: Path) -> int:
    """What a file takes on the storage; it is sparse."""
    return path.stat().st_blocks * _BLOCK


def publish(part: Path, final: Path, *, read_only: bool = False) -> bool:
    """Make a finished file appear under its name, whole and durable; never replace one.

    A link, not a rename: a file that is there may be a running desktop's, and stays. Returns
    whether it was this one that appeared.
    """
    fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if read_only:
            os.fchmod(fd, _READ_ONLY)
        os.fsync(fd)
    finally:
        os.close(fd)
    appeared = True
    try:
        os.link(part, final, follow_symlinks=False)
    except FileExistsError:
        appeared = False
    part.unlink(missing_ok=True)
    sync_directory(final.parent)
    return appeared


def remove_file(path: Path) -> None:
    """A file, if it is there."""
    with translated():
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make names durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(directory: Path) -> None:
    """A directory whose name is durable; its parent is there."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
        sync_directory(directory.parent)


def remove_tree(directory: Path) -> None:
    """A directory and all below it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
        sync_directory(directory.parent)


def remove_stale(directory: Path, name: str) -> bool:
    """Remove a leftover, unless it is so young that it may still be in the making."""
    path = directory / name
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > STALE_S:
            path.unlink()
            return True
    return False


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EBUSY, errno.EEXIST):
            raise


def remove_if_empty(directory: Path) -> None:
    """An empty directory goes; any other stays."""
    _remove_if_empty(directory)


def _outside(path: str, storage_root: Path) -> Invalid:
    return Invalid(
        "storage.path-outside", "{path} does not lie in {root}.", path=path, root=str(storage_root)
    )
