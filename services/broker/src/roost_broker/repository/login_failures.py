"""Queries for wrong passwords."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import LoginFailure
from roost_broker.throttle import Limit
from roost_common.db import AsyncSession


@dataclass(frozen=True)
class Bucket:
    """How full it was when the last failure fell into it."""

    key: str
    level: float
    at: datetime


class LoginFailures:
    """Buckets of wrong passwords, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def buckets(self, keys: Iterable[str]) -> list[Bucket]:
        """Those of the keys under which there were failures."""
        rows = await self._session.execute(
            sa.select(LoginFailure.key, LoginFailure.level, LoginFailure.at).where(
                LoginFailure.key.in_(list(keys))
            )
        )
        return [Bucket(*row) for row in rows]

    async def fill(self, key: str, limit: Limit, now: datetime) -> None:
        """One more failure in the bucket, whoever else is adding one."""
        statement = postgresql.insert(LoginFailure).values(key=key, level=1.0, at=now)
        passed_s = sa.func.greatest(0, sa.extract("epoch", now - LoginFailure.at))
        left = sa.func.greatest(
            0, LoginFailure.level - sa.cast(passed_s, sa.Double) * (limit.failures / limit.window_s)
        )
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["key"], set_={"level": left + 1.0, "at": now}
            )
        )

    async def empty(self, key: str) -> None:
        """Its failures count no more."""
        await self._session.execute(sa.delete(LoginFailure).where(LoginFailure.key == key))

    async def forget(self, before: datetime) -> None:
        """Buckets into which nothing has fallen since."""
        await self._session.execute(sa.delete(LoginFailure).where(LoginFailure.at < before))
