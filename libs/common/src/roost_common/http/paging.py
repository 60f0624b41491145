"""Lists page by page: a cursor is the sort key of the last item, opaque to clients."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from roost_common.errors import Invalid
from roost_common.http.models import ApiModel

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000

T = TypeVar("T")


class Page(ApiModel, Generic[T]):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[T]
    next: str | None
    total: int


class PageQuery(BaseModel):
    """``limit`` and the decoded ``cursor``: the sort key of the last item of the page before."""

    limit: int
    after: tuple[str, ...] | None


async def page_query(
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> PageQuery:
    """Raises `Invalid` for a cursor this service did not make."""
    return PageQuery(limit=limit, after=None if cursor is None else _decode_cursor(cursor))


Paging = Annotated[PageQuery, Depends(page_query)]


def encode_cursor(*key: str) -> str:
    """Opaque to clients; the sort key of an item."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[str, ...]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):  # binascii.Error is a ValueError
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise Invalid("request.cursor-invalid", "This cursor was not made here.")
    return tuple(parts)
