"""Opening a file of the import directory without ever following anything out of it.

The path is walked component by component from a descriptor of the directory (openat(2)), each
opened with O_PATH and O_NOFOLLOW and looked at before it is used: nobody can swap a component for
a symlink in between. What is read later is the descriptor's file, whatever its name becomes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from roost_common.errors import Invalid, Unavailable

MAX_PATH: Final = 4096
_CHUNK: Final = 1 << 20
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class SourceFile:
    """An open regular file of the import directory."""

    name: str
    fd: int

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.fd).st_size

    @property
    def fingerprint(self) -> tuple[int, ...]:
        """Changes with every change of the content; nobody can set a ctime."""
        now = os.fstat(self.fd)
        return (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it; fewer at its end."""
        return os.pread(self.fd, length, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def parts_of(path: str, import_dir: Path) -> tuple[str, ...]:
    """The components of ``path`` below the import directory. Pure.

    Raises `Invalid` (``import.path-outside``, ``import.path-invalid``).
    """
    if not path or len(path) > MAX_PATH or any(ord(letter) < 32 for letter in path):
        raise Invalid("import.path-invalid", "This is no path of a file.")
    given = PurePosixPath(path)
    if given.is_absolute():
        if not given.is_relative_to(import_dir):
            raise _outside(path)
        given = given.relative_to(import_dir)
    if ".." in given.parts:
        raise _outside(path)
    if not given.parts:
        raise _not_a_file(path)
    return given.parts


@contextmanager
def opened(path: str, import_dir: Path) -> Iterator[SourceFile]:
    """The file at ``path``, relative to the import directory or inside it.

    Raises `Invalid`: ``import.path-outside``, ``import.path-invalid``, ``import.symlink``,
    ``import.not-found``, ``import.not-a-file``, ``import.unreadable``; `Unavailable` when the
    import directory itself cannot be read.
    """
    source = open_source(path, import_dir)
    try:
        yield source
    finally:
        source.close()


def open_source(path: str, import_dir: Path) -> SourceFile:
    """The same; the caller closes it."""
    parts = parts_of(path, import_dir)
    try:
        directory = os.open(import_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            "import.directory-unavailable", "The import directory cannot be read."
        ) from error
    try:
        for name in parts[:-1]:
            directory = _swap(directory, _look(directory, name, path, stat.S_ISDIR))
        found = _look(directory, parts[-1], path, stat.S_ISREG)
    finally:
        os.close(directory)
    try:
        # The descriptor is of this very file: opening it by number follows no name any more.
        return SourceFile(parts[-1], os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise _unreadable(path) from error
    finally:
        os.close(found)


def _swap(old: int, new: int) -> int:
    os.close(old)
    return new


def _look(directory: int, name: str, path: str, wanted: Callable[[int], bool]) -> int:
    try:
        fd = os.open(name, _LOOK, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise _not_found(path) from error
        raise _unreadable(path) from error
    mode = os.fstat(fd).st_mode
    if wanted(mode):
        return fd
    os.close(fd)
    if stat.S_ISLNK(mode):
        raise Invalid("import.symlink", "{path} is or passes through a symbolic link.", path=path)
    raise _not_found(path) if wanted is stat.S_ISDIR else _not_a_file(path)


def require_unchanged(source: SourceFile, fingerprint: tuple[int, ...]) -> None:
    """Raises `Invalid` (``import.source-changed``) unless the file is still what was judged."""
    if source.fingerprint != fingerprint:
        raise Invalid("import.source-changed", "The file was changed while it was being imported.")


def sha256(fd: int, goes_on: Callable[[int], bool]) -> str:
    """The SHA-256 of a whole file, in hex; ``goes_on`` is told the bytes read and may stop it.

    Raises `Unavailable` (``job.interrupted``) when stopped.
    """
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
        if not goes_on(offset):
            raise Unavailable("job.interrupted", "The job was interrupted.")
    return digest.hexdigest()


def _outside(path: str) -> Invalid:
    return Invalid("import.path-outside", "{path} does not lie in the import directory.", path=path)


def _not_found(path: str) -> Invalid:
    return Invalid(
        "import.not-found", "There is no file {path} in the import directory.", path=path
    )


def _not_a_file(path: str) -> Invalid:
    return Invalid("import.not-a-file", "{path} is not a regular file.", path=path)


def _unreadable(path: str) -> Invalid:
    return Invalid("import.unreadable", "{path} cannot be read by this service.", path=path)
