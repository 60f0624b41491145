"""What a disk's overlay is made on, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from roost_common.outbox import Transaction
from roost_imaging.layout import Layout
from roost_imaging.model import Disk
from roost_imaging.repository import StorageDomains


@dataclass(frozen=True)
class Base:
    """What an overlay is made on, and where."""

    layout: Layout
    template_id: UUID
    version: int
    virtual_bytes: int

    @property
    def path(self) -> Path:
        """The base's file."""
        return self.layout.version_file(self.template_id, self.version)


async def layout_of(transaction: Transaction, disk: Disk) -> Layout | None:
    """Where a disk's files are, or None where it never had any."""
    if disk.storage_id is None:
        return None
    domain = await StorageDomains(transaction.session).get(str(disk.storage_id))
    return domain.layout


async def base_of(transaction: Transaction, disk: Disk) -> Base | None:
    """What a disk's overlay is made on, or None for a tombstone."""
    layout = await layout_of(transaction, disk)
    if layout is None or disk.template_id is None or disk.template_version is None:
        return None
    return Base(layout, disk.template_id, disk.template_version, disk.virtual_bytes)
