"""Names that only one may have, each among those of its noun."""

from __future__ import annotations

import sqlalchemy as sa

from roost_common.db import AsyncSession


async def lock_name(session: AsyncSession, noun: str, name: str) -> None:
    """The name, until the end of the transaction, whether or not anything is called so yet.

    Two who want one name take turns, so that the second is told so.
    """
    await session.execute(
        sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"{noun}:{name}", 0)))
    )
