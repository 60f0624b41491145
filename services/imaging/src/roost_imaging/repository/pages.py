"""What the queries have in common: names and ids, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import Invalid
from roost_common.http import PageQuery
from roost_common.lookup import named


def as_id(key: str) -> UUID | None:
    """The id that a path names, or None where it names a name."""
    try:
        return UUID(key)
    except ValueError:
        return None


@dataclass(frozen=True)
class Listing:
    """One page of rows, one more where there is a next page, and how many there are in all."""

    rows: Sequence[Any]
    total: int


async def by_key(session: AsyncSession, entity: Any, key: str, *, lock: bool) -> Any:
    """The row with this id or unique name, or None."""
    query = sa.select(entity).where(named(entity.id, entity.name, key))
    return await session.scalar(query.with_for_update() if lock else query)


async def page(
    session: AsyncSession,
    entity: Any,
    order: Sequence[tuple[Any, Callable[[str], Any]]],
    paging: PageQuery,
    *conditions: Any,
    descending: bool = False,
) -> Listing:
    """A page in the order of these columns, each with what reads it out of a cursor."""
    counting = sa.select(sa.func.count()).select_from(entity).where(*conditions)
    total = await session.scalar(counting) or 0
    columns = [column for column, _ in order]
    query = sa.select(entity).where(*conditions)
    if paging.after is not None:
        after = sa.tuple_(*_read(paging.after, order))
        row = sa.tuple_(*columns)
        query = query.where(row < after if descending else row > after)
    query = query.order_by(*(column.desc() if descending else column for column in columns))
    return Listing((await session.scalars(query.limit(paging.limit + 1))).all(), total)


def _read(after: tuple[str, ...], order: Sequence[tuple[Any, Callable[[str], Any]]]) -> list[Any]:
    try:
        return [
            sa.literal(reader(text), column.type)
            for text, (column, reader) in zip(after, order, strict=True)
        ]
    except ValueError:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.") from None
