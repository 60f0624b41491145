"""An id or a unique name: what a caller may write wherever a thing is meant."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa


def named(id_column: Any, name_column: Any, reference: str) -> sa.ColumnElement[bool]:
    """The row of this name, or of this id where the text is one."""
    if "\x00" in reference:
        return sa.false()  # PostgreSQL has no such text
    try:
        key = UUID(reference)
    except ValueError:
        by_name: sa.ColumnElement[bool] = name_column == reference
        return by_name
    by_id: sa.ColumnElement[bool] = id_column == key
    return by_id
