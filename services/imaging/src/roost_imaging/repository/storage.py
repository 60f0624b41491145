"""Queries of storage domains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import NotFound
from roost_common.http import PageQuery
from roost_imaging.model import Disk, StorageDomain, Template
from roost_imaging.repository.pages import Listing, by_key, page


class StorageDomains:
    """Storage domains."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key: str, *, lock: bool = False) -> StorageDomain:
        """By id or name. Raises `NotFound` (``storage.unknown``)."""
        found: StorageDomain | None = await by_key(self._session, StorageDomain, key, lock=lock)
        if found is None:
            raise NotFound("storage.unknown", "There is no storage domain {storage}.", storage=key)
        return found

    async def first(self) -> StorageDomain | None:
        """The oldest: the one meant where none is named."""
        query = sa.select(StorageDomain).order_by(StorageDomain.created_at).limit(1)
        return await self._session.scalar(query)

    async def all(self) -> Sequence[StorageDomain]:
        """All of them; a site has a few."""
        query = sa.select(StorageDomain).order_by(StorageDomain.created_at)
        return (await self._session.scalars(query)).all()

    async def page(self, paging: PageQuery) -> Listing:
        """By name."""
        return await page(self._session, StorageDomain, [(StorageDomain.name, str)], paging)

    async def template_counts(self, ids: Iterable[UUID]) -> dict[UUID, int]:
        """Templates in each domain."""
        query = (
            sa.select(Template.storage_id, sa.func.count())
            .where(Template.storage_id.in_(list(ids)))
            .group_by(Template.storage_id)
        )
        return dict((await self._session.execute(query)).all())

    async def disk_counts(self, ids: Iterable[UUID]) -> dict[UUID, int]:
        """Disks in each domain."""
        query = (
            sa.select(Disk.storage_id, sa.func.count())
            .where(Disk.storage_id.in_(list(ids)))
            .group_by(Disk.storage_id)
        )
        rows = (await self._session.execute(query)).all()
        return {storage_id: count for storage_id, count in rows if storage_id is not None}
