"""Queries of disks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.http import PageQuery
from roost_imaging.model import Disk
from roost_imaging.repository.pages import Listing, page
from roost_imaging.states import DiskState


class Disks:
    """Disks."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, disk_id: UUID) -> Disk | None:
        """One disk, until the end of the transaction; also against another one's insertion."""
        await self._session.execute(
            sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(str(disk_id), 0)))
        )
        return await self._session.get(Disk, disk_id, with_for_update=True, populate_existing=True)

    async def find(self, disk_id: UUID) -> Disk | None:
        """By id; tombstones too."""
        return await self._session.get(Disk, disk_id)

    def add(self, disk: Disk) -> None:
        """A new one."""
        self._session.add(disk)

    async def page(self, paging: PageQuery, template_id: UUID | None) -> Listing:
        """By id, without tombstones."""
        conditions = [Disk.state != DiskState.DELETED]
        if template_id is not None:
            conditions.append(Disk.template_id == template_id)
        return await page(self._session, Disk, [(Disk.id, UUID)], paging, *conditions)

    async def deleting(self, limit: int) -> Sequence[Disk]:
        """Those whose files are to go."""
        query = sa.select(Disk).where(Disk.state == DiskState.DELETING).limit(limit)
        return (await self._session.scalars(query)).all()

    async def prune(self, before: datetime) -> None:
        """Forget tombstones that are older."""
        await self._session.execute(
            sa.delete(Disk).where(Disk.state == DiskState.DELETED, Disk.deleted_at < before)
        )

    async def to_count(
        self, storage_ids: Iterable[UUID], before: datetime, limit: int
    ) -> Sequence[Disk]:
        """Those in these domains not measured since, the longest first."""
        query = (
            sa.select(Disk)
            .where(
                Disk.storage_id.in_(list(storage_ids)),
                Disk.state.in_((DiskState.READY, DiskState.PENDING)),
                sa.or_(Disk.counted_at.is_(None), Disk.counted_at < before),
            )
            .order_by(Disk.counted_at.nulls_first())
            .limit(limit)
        )
        return (await self._session.scalars(query)).all()

    async def counted(
        self, disk_id: UUID, generation: int, used_bytes: int | None, now: datetime
    ) -> None:
        """Record a measurement, unless the disk has gone on meanwhile."""
        values: dict[str, Any] = {"counted_at": now}
        if used_bytes is not None:
            values["used_bytes"] = used_bytes
        await self._session.execute(
            sa.update(Disk)
            .where(
                Disk.id == disk_id,
                Disk.generation == generation,
                Disk.state.in_((DiskState.READY, DiskState.PENDING)),
            )
            .values(values)
        )
