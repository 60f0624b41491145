"""Idempotency keys; `roost_common.idempotency` writes and reads them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_inventory.model import Base

_KEYS = Base.metadata.tables["idempotency_keys"]


class Keys:
    """Keys in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def forget(self, before: datetime) -> None:
        """Drop those of long ago."""
        await self._session.execute(sa.delete(_KEYS).where(_KEYS.c.created_at < before))
