"""The base of broker's mapped classes, with the tables of the common library."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql

from roost_common import db
from roost_common.idempotency import add_idempotency_table
from roost_common.outbox import add_message_tables

Json = postgresql.JSONB(none_as_null=True)
"""A JSON column where None is SQL's NULL."""
JsonObject = dict[str, Any]


class Base(db.Base):
    """Everything broker keeps."""

    __abstract__ = True
    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_idempotency_table(Base.metadata)
