"""A lease in the database: of several equal copies one holds it, for seconds at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_common import log
from roost_common.clock import Clock
from roost_common.errors import RoostError
from roost_common.outbox import UnitOfWork

logger = log.get_logger(__name__)

LIFE_S: Final = 4.0
"""How long a lease lives without being renewed; the next copy takes over after at most this."""

_LEASES = sa.table(
    "leases",
    sa.column("name", sa.String),
    sa.column("holder", sa.Uuid),
    sa.column("term", sa.BigInteger),
    sa.column("expires_at", sa.DateTime(timezone=True)),
)


def add_lease_table(metadata: sa.MetaData) -> None:
    """The leases as a table of a service's metadata, for its migrations."""
    sa.Table(
        "leases",
        metadata,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.Uuid, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )


class Lease:
    """This copy's claim on one named duty.

    `renew` is to be called well within `LIFE_S`. Times are the database's, so that the copies'
    clocks do not matter; this copy counts its own term from *before* it asked, with its monotonic
    clock, so that it never believes longer than the database does.
    """

    def __init__(self, name: str, unit_of_work: UnitOfWork, clock: Clock) -> None:
        self.name = name
        self.holder: UUID = uuid4()
        self.term = 0
        self._unit = unit_of_work
        self._clock = clock
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether this copy may act now."""
        return self._clock.monotonic() < self._until

    async def renew(self) -> bool:
        """Take or keep the lease if it is free or ours; returns whether we hold it."""
        asked_at = self._clock.monotonic()
        was_held = self.held
        now = sa.func.clock_timestamp()
        expires = now + timedelta(seconds=LIFE_S)
        insert = postgresql.insert(_LEASES).values(
            name=self.name, holder=self.holder, term=1, expires_at=expires
        )
        ours = _LEASES.c.holder == self.holder
        statement = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "holder": self.holder,
                "expires_at": expires,
                "term": sa.case((ours, _LEASES.c.term), else_=_LEASES.c.term + 1),
            },
            where=ours | (_LEASES.c.expires_at < now),
        ).returning(_LEASES.c.term)
        try:
            async with self._unit() as transaction:
                term = (await transaction.session.execute(statement)).scalar()
        except RoostError:
            if was_held and not self.held:
                logger.warning("lease.lost", lease=self.name)
            raise
        if term is None:
            self._until = float("-inf")
            if was_held:
                logger.warning("lease.lost", lease=self.name)
            return False
        self._until = asked_at + LIFE_S
        if not was_held:
            self.term = term
            logger.info("lease.taken", lease=self.name, term=term)
        return True

    async def release(self) -> None:
        """Give it up at a clean stop, so that another copy need not wait.

        The row stays, for its term: no term is ever given twice, so whoever compares terms sees
        that somebody else may have held it. Nor is this one's given again to this copy.
        """
        self._until = float("-inf")
        async with self._unit() as transaction:
            await transaction.session.execute(
                sa.update(_LEASES)
                .where(_LEASES.c.name == self.name, _LEASES.c.holder == self.holder)
                .values(expires_at=sa.func.clock_timestamp(), term=_LEASES.c.term + 1)
            )
