"""The files of templates: versions, and what a job leaves in the making. Called in a lane."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from roost_imaging import layout as names
from roost_imaging import storage_files
from roost_imaging.layout import Layout, VersionPart


def prepare(layout: Layout, part: Path, final: Path, needed: int, reserve: int) -> None:
    """Make room for a version in the making.

    A file under the version's own name is of an earlier attempt that died before it could record
    it: nobody uses it. The part is there from now on, for an empty directory may be removed with
    what an earlier attempt left in it.
    """
    with storage_files.translated():
        storage_files.require_free(layout, needed, reserve)
        _begin(part)
        mine = names.version_part(part.name)
        for path in final.parent.iterdir():
            other = names.version_part(path.name)
            same = other is not None and mine is not None and other.job_id == mine.job_id
            if same and path.name != part.name:
                path.unlink(missing_ok=True)
        final.unlink(missing_ok=True)


def _begin(part: Path) -> None:
    """Before anything of earlier attempts goes: an empty directory may be removed at any time."""
    for last in (False, False, True):
        storage_files.make_directory(part.parent)
        part.unlink(missing_ok=True)
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            if last:
                raise
        else:
            return


def open_part(layout: Layout, part: Path) -> int:
    """A descriptor of the finished conversion, for a last look and its checksum."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fsync(fd)
        return fd


def publish(layout: Layout, part: Path, final: Path) -> int | None:
    """Let the version appear, read-only; the bytes it takes, or None when the name is taken."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        appeared = storage_files.publish(part, final, read_only=True)
        return storage_files.used_bytes(final) if appeared else None


def discard(layout: Layout, template_id: UUID, version: int, job_id: UUID) -> None:
    """Everything that a job without success has left."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        directory = layout.template_dir(template_id)
        if not directory.is_dir():
            return
        for path in directory.iterdir():
            part = names.version_part(path.name)
            if part is not None and part.job_id == job_id:
                path.unlink(missing_ok=True)
        layout.version_file(template_id, version).unlink(missing_ok=True)
        storage_files.remove_if_empty(directory)


def remove(layout: Layout, template_id: UUID) -> None:
    """A template with all its versions."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        storage_files.remove_tree(layout.template_dir(template_id))


def parts(layout: Layout) -> list[tuple[Path, VersionPart]]:
    """Every version in the making, or left by a job that died."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        found: list[tuple[Path, VersionPart]] = []
        for directory in layout.templates.iterdir():
            for path in directory.iterdir() if directory.is_dir() else []:
                part = names.version_part(path.name)
                if part is not None:
                    found.append((path, part))
        return found


def remove_part(layout: Layout, path: Path) -> None:
    """One leftover, and its directory when that is empty then."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        path.unlink(missing_ok=True)
        storage_files.remove_if_empty(path.parent)
