"""The files of disks: overlays by generation. Called in a lane, see `storage_files`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from roost_common.errors import NotFound
from roost_imaging import layout as names
from roost_imaging import storage_files
from roost_imaging.layout import Layout


def prepare(layout: Layout, disk_id: UUID, generation: int, base: Path, reserve: int) -> bool:
    """Make room for an overlay; false when its file is there already.

    It can be there when its maker died before saying so: it appeared whole, and nobody has been
    told of it. Raises `NotFound` (``template.file-missing``), ``storage.full`` and
    ``storage.unavailable``.
    """
    with storage_files.translated():
        storage_files.require_free(layout, 0, reserve)
        if layout.disk_file(disk_id, generation).exists():
            return False
        if not base.exists():
            raise NotFound("template.file-missing", "The template's file is gone from its storage.")
        storage_files.make_directory(layout.disk_dir(disk_id))
        return True


def finish(layout: Layout, disk_id: UUID, generation: int, part: Path | None) -> int:
    """Let the overlay appear and older generations go; returns the bytes it takes."""
    with storage_files.translated():
        final = layout.disk_file(disk_id, generation)
        if part is not None:
            storage_files.publish(part, final)
        for path in layout.disk_dir(disk_id).iterdir():
            found = names.generation(path.name)
            if found is not None and found < generation:
                path.unlink(missing_ok=True)
        return storage_files.used_bytes(final)


def exists(layout: Layout, disk_id: UUID, generation: int) -> bool:
    """Whether the overlay is where it should be."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        return layout.disk_file(disk_id, generation).exists()


def discard(layout: Layout, disk_id: UUID, generation: int, *, whole_disk: bool) -> None:
    """Take away what was made for a wish that a newer one has overtaken."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        if whole_disk:
            storage_files.remove_tree(layout.disk_dir(disk_id))
        else:
            layout.disk_file(disk_id, generation).unlink(missing_ok=True)


def remove(layout: Layout, disk_id: UUID) -> None:
    """Every generation of a disk."""
    with storage_files.translated():
        storage_files.require_mounted(layout)
        storage_files.remove_tree(layout.disk_dir(disk_id))


@dataclass(frozen=True)
class Survey:
    """What a look at one disk's directory found."""

    disk_id: UUID
    generation: int
    used_bytes: int | None
    """None: the overlay is not there."""
    removed: int


def survey(layout: Layout, disks: list[tuple[UUID, int]]) -> list[Survey]:
    """Measure overlays and clear their directories of leftovers.

    A generation below the one reached belongs to nobody. Files of disks that this service does
    not know at all are left alone: they may be newer than a restored database.
    """
    with storage_files.translated():
        storage_files.require_mounted(layout)
        return [_survey(layout, disk_id, generation) for disk_id, generation in disks]


def _survey(layout: Layout, disk_id: UUID, generation: int) -> Survey:
    directory = layout.disk_dir(disk_id)
    used: int | None = None
    removed = 0
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        found = names.generation(path.name)
        if found == generation:
            used = storage_files.used_bytes(path)
        elif found is not None and found < generation:
            path.unlink(missing_ok=True)
            removed += 1
        elif names.OVERLAY_PART.match(path.name):
            removed += storage_files.remove_stale(directory, path.name)
    return Survey(disk_id, generation, used, removed)
