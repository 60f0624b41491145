"""The base of ha-monitor's mapped classes, and the tables of the plumbing."""

from __future__ import annotations

from roost_common import db
from roost_common.lease import add_lease_table
from roost_common.outbox import add_message_tables


class Base(db.Base):
    """Base of ha-monitor's mapped classes."""

    __abstract__ = True
    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_lease_table(Base.metadata)
