"""`Idempotency-Key`: a repeated create answers with what the first one made."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import postgresql

from roost_common.errors import Conflict, Invalid
from roost_common.outbox import Transaction

MAX_KEY_LENGTH = 255
KEPT: Final = timedelta(days=1)
"""How long a key leads to what it made: longer than any client retries."""

_KEYS = sa.table(
    "idempotency_keys",
    sa.column("actor", sa.String),
    sa.column("key", sa.String),
    sa.column("fingerprint", sa.String),
    sa.column("resource_id", sa.Uuid),
    sa.column("created_at", sa.DateTime(timezone=True)),
)


def add_idempotency_table(metadata: sa.MetaData) -> None:
    """The keys as a table of a service's metadata, for its migrations."""
    sa.Table(
        "idempotency_keys",
        metadata,
        sa.Column("actor", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(MAX_KEY_LENGTH), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.Uuid, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
    )


async def forget(transaction: Transaction, before: datetime) -> None:
    """Drop the keys of requests that nobody repeats any more."""
    await transaction.session.execute(sa.delete(_KEYS).where(_KEYS.c.created_at < before))


async def lead_to(transaction: Transaction, *, actor: str, key: str, resource_id: UUID) -> None:
    """Bind a key that was claimed to another resource: the one that the request led to."""
    await transaction.session.execute(
        sa.update(_KEYS)
        .where(_KEYS.c.actor == actor, _KEYS.c.key == key)
        .values(resource_id=resource_id)
    )


async def claim(
    transaction: Transaction,
    *,
    actor: str,
    key: str | None,
    request: BaseModel,
    resource_id: UUID,
    now: datetime,
) -> UUID | None:
    """Bind ``key`` to the resource about to be made.

    Returns None when the caller is to go on and make it, or the id that an earlier, equal request
    made. Two at once: the second waits for the first's transaction. Raises `Conflict`
    (``idempotency.key-reused``) when the key came with another request.
    """
    if key is None:
        return None
    if not key or len(key) > MAX_KEY_LENGTH:
        raise Invalid("idempotency.key-invalid", "An Idempotency-Key has 1 to 255 characters.")
    fingerprint = hashlib.sha256(
        f"{type(request).__name__}:{request.model_dump_json()}".encode()
    ).hexdigest()
    inserted = await transaction.session.execute(
        postgresql.insert(_KEYS)
        .values(
            actor=actor, key=key, fingerprint=fingerprint, resource_id=resource_id, created_at=now
        )
        .on_conflict_do_nothing()
        .returning(_KEYS.c.key)
    )
    if inserted.first() is not None:
        return None
    row = (
        await transaction.session.execute(
            sa.select(_KEYS).where(_KEYS.c.actor == actor, _KEYS.c.key == key)
        )
    ).one()
    if row.fingerprint != fingerprint:
        raise Conflict(
            "idempotency.key-reused", "This Idempotency-Key was used for another request."
        )
    earlier: UUID = row.resource_id
    return earlier
