"""The base of ha-monitor's mapped classes, and the tables of the plumbing."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from roost_common import db
from roost_common.idempotency import add_idempotency_table
from roost_common.lease import add_lease_table
from roost_common.outbox import add_message_tables


class Base(db.Base):
    """Base of ha-monitor's mapped classes."""

    __abstract__ = True
    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_lease_table(Base.metadata)
add_idempotency_table(Base.metadata)


def text_enum(kind: type[StrEnum], length: int = 16) -> sa.Enum:
    """A column type that holds the values of ``kind`` as text."""
    return sa.Enum(
        kind, native_enum=False, length=length, values_callable=lambda e: [m.value for m in e]
    )
