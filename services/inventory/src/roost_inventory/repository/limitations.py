"""The one row that says which limits were published."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_inventory.model import Limitation

_ID = 1


class Limitations:
    """The row, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, now: datetime) -> Limitation:
        """For change; made where nothing was ever published."""
        query = sa.select(Limitation).where(Limitation.id == _ID).with_for_update()
        found = await self._session.scalar(query)
        if found is None:
            await self._session.execute(
                postgresql.insert(Limitation)
                .values(id=_ID, revision=0, said_at=now)
                .on_conflict_do_nothing()
            )
            found = (await self._session.scalars(query)).one()
        return found
