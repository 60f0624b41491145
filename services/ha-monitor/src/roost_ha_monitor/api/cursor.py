"""Cursors of lists that are newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from roost_common.errors import Invalid
from roost_common.http import PageQuery

_CURSOR: Final[TypeAdapter[tuple[AwareDatetime, UUID]]] = TypeAdapter(tuple[AwareDatetime, UUID])


def time_cursor(paging: PageQuery) -> tuple[datetime, UUID] | None:
    """Time and id of the last item of the page before; None for the first page."""
    if paging.after is None:
        return None
    try:
        return _CURSOR.validate_python(paging.after)
    except ValidationError:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.") from None
