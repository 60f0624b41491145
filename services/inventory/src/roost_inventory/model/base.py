"""What the mapped classes stand on: metadata, and columns that hold a contract's types."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql

from roost_common import db
from roost_common.idempotency import add_idempotency_table
from roost_common.lease import add_lease_table
from roost_common.outbox import add_message_tables


class Base(db.Base):
    """Base of inventory's mapped classes."""

    __abstract__ = True
    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_idempotency_table(Base.metadata)
add_lease_table(Base.metadata)


class Json(sa.types.TypeDecorator[Any]):
    """A JSONB column that holds one frozen class of the contracts."""

    impl = postgresql.JSONB(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__(none_as_null=True)
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """The value as plain JSON."""
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """And back; raises `ValidationError` for what an incompatible version wrote, but not for
        what a newer one added."""
        return None if value is None else self._adapter.validate_python(value, extra="ignore")


def word(kind: type[StrEnum]) -> sa.Enum:
    """A column of a StrEnum's values, as text: a new member needs no migration."""
    return sa.Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )
