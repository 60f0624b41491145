"""Outbox and inbox: state and messages change together, in the one place that commits.

What a service says is a row in the transaction that changed its state; the `Relay` sends it with
publisher confirms and deletes it. What a service has handled is a row in the transaction that
handled it. Delivery is at least once, in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common import log, metrics, topology
from roost_common.bus import NO_CONSUMER, Bus
from roost_common.clock import Clock
from roost_common.contracts.base import Delivery, Envelope, Kind, Message
from roost_common.db import Database, translated
from roost_common.errors import Unavailable

logger = log.get_logger(__name__)

BATCH: Final = 200
"""Messages a relay sends in one transaction."""
PARKED_FOR: Final = timedelta(seconds=5)
"""How long a command waits whose consumer has never started."""
PACE_S: Final = 0.02
"""Pause after a batch that was not full: a lone message goes at once, a burst goes together."""
IDLE_POLL_S: Final = 1.0
"""How long a message of another, dead copy may wait for this one's relay."""
INBOX_KEPT: Final = timedelta(days=7)
"""Longer than any message can stay in a queue of a site that is looked after."""

_OUTBOX = sa.table(
    "outbox",
    sa.column("id", sa.BigInteger),
    sa.column("kind", sa.String),
    sa.column("routing_key", sa.String),
    sa.column("body", sa.Text),
    sa.column("envelope", postgresql.JSONB),
    sa.column("not_before", sa.DateTime(timezone=True)),
)
_INBOX = sa.table(
    "inbox",
    sa.column("message_id", sa.Uuid),
    sa.column("handled_at", sa.DateTime(timezone=True)),
)

# Every message goes through these, and to build a statement takes longer than to execute it.
_SAY: Final = sa.insert(_OUTBOX)
_HANDLED: Final = postgresql.insert(_INBOX).on_conflict_do_nothing().returning(_INBOX.c.message_id)
_UNSENT: Final = (
    sa.select(_OUTBOX)
    .where(sa.or_(_OUTBOX.c.not_before.is_(None), _OUTBOX.c.not_before <= sa.func.now()))
    .order_by(_OUTBOX.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
_SENT: Final = sa.delete(_OUTBOX).where(
    _OUTBOX.c.id == sa.any_(sa.bindparam("sent", type_=postgresql.ARRAY(sa.BigInteger)))
)


def add_message_tables(metadata: sa.MetaData) -> None:
    """The outbox and inbox as tables of a service's metadata, for its migrations."""
    sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("routing_key", sa.String(512), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("envelope", postgresql.JSONB, nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True)),
    )
    sa.Table(
        "inbox",
        metadata,
        sa.Column("message_id", sa.Uuid, primary_key=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=False, index=True),
    )


class Transaction:
    """One unit of work in progress: its session, and what it will say when it commits."""

    def __init__(self, session: AsyncSession, unit: UnitOfWork, cause: Envelope | None) -> None:
        self.session = session
        self._unit = unit
        self._cause = cause
        self._rows: list[dict[str, Any]] = []
        self._after: list[Callable[[], None]] = []

    def emit(self, message: Message, *, node: str | None = None) -> None:
        """Say it, if and when this transaction commits."""
        envelope = self._unit.envelope(message, self._cause)
        self._rows.append(
            {
                "kind": message.kind.value,
                "routing_key": topology.routing_key(message, node),
                "body": message.model_dump_json(),
                "envelope": envelope.model_dump(mode="json"),
            }
        )

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call it once the transaction has committed; for waking loops, never for state."""
        self._after.append(callback)

    async def first_time(self, message_id: UUID) -> bool:
        """Record a message as handled; false when it was before."""
        row = {"message_id": message_id, "handled_at": self._unit.clock.now()}
        return (await self.session.execute(_HANDLED, row)).first() is not None

    async def flush_messages(self) -> None:
        """Write what was said; called by the unit of work before it commits."""
        if self._rows:
            await self.session.flush()
            await self.session.execute(_SAY, self._rows)

    def committed(self) -> None:
        """Called by the unit of work after it has committed."""
        if self._rows:
            self._unit.said.set()
        for callback in self._after:
            callback()


class UnitOfWork:
    """Where transactions begin and the only place where they commit.

    ::

        async with unit_of_work() as transaction:
            desktop = await Desktops(transaction.session).get(desktop_id)
            desktop.start()
            transaction.emit(DesktopChanged(desktop=desktop.view()))
    """

    def __init__(self, database: Database, source: str, clock: Clock) -> None:
        self._database = database
        self._source = f"/roost/{source}"
        self.clock = clock
        self.said = asyncio.Event()

    def envelope(self, message: Message, cause: Envelope | None) -> Envelope:
        """A new envelope; its correlation is the cause's, or the present request's."""
        bound = log.current("correlation_id")
        return Envelope(
            id=uuid4(),
            type=message.name,
            source=self._source,
            time=self.clock.now(),
            subject=message.subject,
            correlation_id=cause.correlation_id if cause else bound or str(uuid4()),
            causation_id=cause.id if cause else None,
        )

    @asynccontextmanager
    async def __call__(self, cause: Envelope | None = None) -> AsyncIterator[Transaction]:
        """A transaction that commits at the end of the block and rolls back on any error."""
        async with translated(), self._database.sessions() as session:
            transaction = Transaction(session, self, cause)
            yield transaction
            await transaction.flush_messages()
            await session.commit()
        transaction.committed()

    @asynccontextmanager
    async def handling(self, delivery: Delivery) -> AsyncIterator[Transaction | None]:
        """A transaction for one message, or None when the message was handled before."""
        async with self(delivery.envelope) as transaction:
            if await transaction.first_time(delivery.envelope.id):
                yield transaction
            else:
                logger.debug("message.repeated", type=delivery.envelope.type)
                yield None


class Relay:
    """Sends what units of work have said. Copies share the outbox with SKIP LOCKED."""

    def __init__(self, database: Database, unit_of_work: UnitOfWork, bus: Bus) -> None:
        self._database = database
        self._unit = unit_of_work
        self._bus = bus

    async def send_batch(self) -> int:
        """Publish up to `BATCH` messages; returns how many. Unsent ones stay.

        Raises `Unavailable` when nothing at all could be sent.
        """
        async with translated(), self._database.sessions() as session:
            rows = (await session.execute(_UNSENT)).all()
            if not rows:
                return 0
            results = await asyncio.gather(
                *(self._publish(row) for row in rows), return_exceptions=True
            )
            sent, parked, failure = _sort_out(rows, results)
            if sent:
                await session.execute(_SENT, {"sent": sent})
            if parked:
                # Nobody takes these yet; they must not stand in the way of the rest.
                await session.execute(
                    sa.update(_OUTBOX)
                    .where(_OUTBOX.c.id.in_(parked))
                    .values(not_before=sa.func.now() + PARKED_FOR)
                )
            await session.commit()
        metrics.OUTBOX_SENT.inc(len(sent))
        if failure is not None and not sent:
            raise failure
        return len(sent)

    async def _publish(self, row: sa.Row[Any]) -> None:
        await self._bus.publish_raw(
            kind=Kind(row.kind),
            routing_key=row.routing_key,
            body=row.body.encode(),
            envelope=Envelope.model_validate(row.envelope),
        )

    async def run(self) -> None:
        """Send for ever, at once when this process said something."""
        failing = False
        while True:
            self._unit.said.clear()
            try:
                sent = await self.send_batch()
            except Unavailable as error:
                if not failing:
                    logger.warning("outbox.waits", code=error.code)
                failing = True
                await asyncio.sleep(IDLE_POLL_S)
                continue
            if failing:
                logger.info("outbox.recovered")
                failing = False
            if 0 < sent < BATCH:
                await asyncio.sleep(PACE_S)
            if sent < BATCH:
                await _wait_for(self._unit.said, IDLE_POLL_S)

    async def prune_inbox(self) -> None:
        """Forget messages handled longer ago than any can come again."""
        async with self._unit() as transaction:
            limit = self._unit.clock.now() - INBOX_KEPT
            await transaction.session.execute(sa.delete(_INBOX).where(_INBOX.c.handled_at < limit))

    async def pending(self) -> int:
        """Messages not sent yet."""
        async with translated(), self._database.sessions() as session:
            count = await session.scalar(sa.select(sa.func.count()).select_from(_OUTBOX))
        metrics.OUTBOX_PENDING.set(count or 0)
        return count or 0


def _sort_out(
    rows: Sequence[sa.Row[Any]], results: Sequence[BaseException | None]
) -> tuple[list[int], list[int], Unavailable | None]:
    """Ids sent, ids to park, and one failure of the bus itself; raises what is no such failure."""
    sent: list[int] = []
    parked: list[int] = []
    failure: Unavailable | None = None
    for row, result in zip(rows, results, strict=True):
        if result is None:
            sent.append(row.id)
        elif not isinstance(result, Unavailable):
            raise result
        elif result.code == NO_CONSUMER:
            parked.append(row.id)
        else:
            failure = result
    return sent, parked, failure


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
