"""Outbox, inbox, leases and idempotency keys on a real PostgreSQL, the relay on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from tests.polling import eventually

from roost_common import outbox, topology
from roost_common.bus import Bus, Subscription
from roost_common.bus.handling import Outcome, handle
from roost_common.clock import SystemClock
from roost_common.contracts.base import Delivery, Event
from roost_common.contracts.desktop import DeleteDesktop
from roost_common.contracts.host import HostApproved
from roost_common.db import Database, new_metadata
from roost_common.errors import Conflict, Invalid, Outage, Unavailable
from roost_common.idempotency import add_idempotency_table, claim
from roost_common.lease import LIFE_S, Lease, add_lease_table
from roost_common.outbox import Relay, UnitOfWork, add_message_tables
from roost_common.testing.bus import FakeBus, delivery
from roost_common.testing.clock import FakeClock
from roost_lab.postgres import PostgresServer

pytestmark = pytest.mark.integration

METADATA = new_metadata()
add_message_tables(METADATA)
add_lease_table(METADATA)
add_idempotency_table(METADATA)
QUEUE = topology.service_queue("inventory", HostApproved)


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    name = f"common_{uuid4().hex[:8]}"
    postgres.create_database(name)
    database = Database(postgres.url(name), "common")
    async with database.engine.begin() as connection:
        await connection.execute(sa.text("create schema common"))
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()
    postgres.drop_database(name)


@pytest.fixture
def unit(database: Database) -> UnitOfWork:
    return UnitOfWork(database, "test", SystemClock())


async def test_what_is_said_in_a_failed_transaction_was_never_said(
    database: Database, unit: UnitOfWork
) -> None:
    with pytest.raises(RuntimeError):
        async with unit() as transaction:
            transaction.emit(HostApproved(node="a"))
            raise RuntimeError("the handler failed")
    assert await Relay(database, unit, FakeBus()).pending() == 0  # type: ignore[arg-type]


async def test_the_relay_sends_once_and_keeps_cause_and_correlation(
    database: Database, unit: UnitOfWork, amqp_url: str
) -> None:
    seen: list[Delivery] = []

    async def keep(one: Delivery) -> None:
        seen.append(one)

    bus = Bus(amqp_url, "test")
    bus.subscribe(Subscription(QUEUE, keep))
    running = asyncio.create_task(bus.run())
    await bus.wait_connected()
    cause = delivery(HostApproved(node="cause"), correlation_id="r-1").envelope
    async with unit(cause) as transaction:
        transaction.emit(HostApproved(node="a"))
        transaction.emit(HostApproved(node="b"))
    relay = Relay(database, unit, bus)
    assert await relay.send_batch() == 2
    assert await relay.send_batch() == 0
    await eventually(lambda: len(seen) >= 2, "both arrive")
    assert {str(one.message.subject) for one in seen} == {"a", "b"}
    assert {one.envelope.correlation_id for one in seen} == {"r-1"}
    assert {one.envelope.causation_id for one in seen} == {cause.id}
    await bus.drain()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_nothing_is_lost_while_the_bus_is_away(database: Database, unit: UnitOfWork) -> None:
    away = _RawBus(Unavailable("bus.unavailable", "Away."))
    async with unit() as transaction:
        transaction.emit(HostApproved(node="a"))
    relay = Relay(database, unit, away)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await relay.send_batch()
    assert await relay.pending() == 1
    away.error = None
    assert await relay.send_batch() == 1


async def test_a_command_without_consumer_does_not_hold_up_the_rest(
    database: Database, unit: UnitOfWork
) -> None:
    bus = _RawBus(Unavailable("bus.no-consumer", "Nobody."), only="desktop.delete.v1")
    async with unit() as transaction:
        transaction.emit(DeleteDesktop(desktop_id=uuid4()))
        transaction.emit(HostApproved(node="a"))
    relay = Relay(database, unit, bus)  # type: ignore[arg-type]
    assert await relay.send_batch() == 1
    assert await relay.send_batch() == 0
    assert await relay.pending() == 1


async def test_what_follows_closely_goes_together_and_the_first_at_once(
    database: Database, unit: UnitOfWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PACE_S", 2.0)
    batches: list[int] = []

    class Counted(Relay):
        async def send_batch(self) -> int:
            sent = await super().send_batch()
            if sent:
                batches.append(sent)
            return sent

    async def say(node: str) -> None:
        async with unit() as transaction:
            transaction.emit(HostApproved(node=node))

    bus = _RawBus(None)
    task = asyncio.create_task(Counted(database, unit, bus).run())  # type: ignore[arg-type]
    try:
        await say("first")
        await eventually(lambda: batches == [1], "the first is sent", 1.5)
        for number in range(5):
            await say(f"n{number}")
        await eventually(lambda: sum(batches) == 6, "all are sent")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert batches == [1, 5]


class _RawBus:
    """Takes what a relay sends, or raises for all of it or for one kind."""

    def __init__(self, error: Unavailable | None, only: str = "") -> None:
        self.error = error
        self.only = only

    async def publish_raw(self, *, routing_key: str, **_: object) -> None:
        if self.error is not None and self.only in ("", routing_key):
            raise self.error


async def test_two_relays_never_send_the_same_row(database: Database, unit: UnitOfWork) -> None:
    async with unit() as transaction:
        for number in range(50):
            transaction.emit(HostApproved(node=f"n{number}"))
    sent: list[UUID] = []

    class Slow:
        async def publish_raw(self, *, envelope: Event, **_: object) -> None:
            await asyncio.sleep(0.05)
            sent.append(envelope.id)  # type: ignore[attr-defined]

    relays = [Relay(database, unit, Slow()) for _ in range(2)]  # type: ignore[arg-type]
    counts = await asyncio.gather(*(relay.send_batch() for relay in relays))
    assert sum(counts) == 50
    assert len(set(sent)) == len(sent) == 50


async def test_a_message_is_handled_once_also_when_two_copies_get_it(unit: UnitOfWork) -> None:
    one = delivery(HostApproved(node="a"))
    handled = 0

    async def handle() -> None:
        nonlocal handled
        async with unit.handling(one) as transaction:
            if transaction is None:
                return
            await asyncio.sleep(0.05)
            handled += 1

    await asyncio.gather(*(handle() for _ in range(4)))
    assert handled == 1


async def test_a_failed_handling_is_not_recorded(unit: UnitOfWork) -> None:
    one = delivery(HostApproved(node="a"))
    with pytest.raises(Conflict):
        async with unit.handling(one):
            raise Conflict("x", "No.")
    async with unit.handling(one) as transaction:
        assert transaction is not None


OUTBOX = METADATA.tables["outbox"]
ROW = {"kind": "event", "routing_key": "x", "body": "{}", "envelope": {}}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        # The server's refusals, and the first of the library's, which asks no server.
        (sa.insert(OUTBOX).values(ROW | {"body": "a\x00b"}), "request.invalid-text"),
        (sa.insert(OUTBOX).values(ROW | {"envelope": {"x": "a\x00b"}}), "request.invalid-text"),
        (sa.insert(OUTBOX).values(ROW | {"kind": "x" * 17}), "request.value-refused"),
        (sa.select(sa.literal(2**31, sa.Integer)), "request.value-refused"),
        (sa.select(sa.literal("\ud800", sa.Text)), "request.value-refused"),
    ],
    ids=["nul", "nul-in-json", "too-long", "too-large", "half-a-pair"],
)
async def test_a_value_that_cannot_be_stored_is_refused_for_good(
    unit: UnitOfWork, statement: sa.Executable, code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        async with unit() as transaction:
            await transaction.session.execute(statement)
    assert caught.value.code == code
    seen = 0

    async def handler(one: Delivery) -> None:
        nonlocal seen
        seen += 1
        async with unit.handling(one) as transaction:
            assert transaction is not None
            await transaction.session.execute(statement)

    # A message with such a value never gets better.
    assert await handle(delivery(HostApproved(node="a")), handler, 0) is Outcome.DEAD
    assert seen == 1


async def test_a_lease_has_one_holder_and_passes_on(unit: UnitOfWork) -> None:
    clock = FakeClock()
    first, second = Lease("duty", unit, clock), Lease("duty", unit, clock)
    assert await first.renew()
    assert not await second.renew()
    assert first.held
    assert not second.held
    # The holder stops renewing: it stops believing before the database lets go of it.
    clock.advance(LIFE_S)
    assert not first.held
    await first.release()
    assert await second.renew()
    assert second.term > first.term
    assert not await first.renew()


async def test_no_term_of_a_lease_comes_twice(unit: UnitOfWork) -> None:
    first, second = (Lease("duty", unit, SystemClock()) for _ in range(2))
    terms = []
    for holder, other in ((first, second), (second, first), (first, second), (first, second)):
        assert await holder.renew()
        assert await holder.renew(), "its own, which is no new term"
        terms.append(holder.term)
        assert not await other.renew()
        # Giving up what another one holds changes nothing.
        await other.release()
        assert not await other.renew()
        await holder.release()
        assert not holder.held
    assert terms == sorted(set(terms))
    assert await second.renew(), "at once"


async def test_of_many_copies_one_takes_a_free_lease(unit: UnitOfWork) -> None:
    leases = [Lease("duty", unit, SystemClock()) for _ in range(8)]
    taken = await asyncio.gather(*(lease.renew() for lease in leases))
    assert taken.count(True) == 1


class _Request(BaseModel):
    name: str


async def test_an_idempotency_key_leads_to_what_was_made(unit: UnitOfWork) -> None:
    made = uuid4()

    async def ask(name: str, key: str | None, resource: UUID) -> UUID | None:
        async with unit() as transaction:
            return await claim(
                transaction,
                actor="ann",
                key=key,
                request=_Request(name=name),
                resource_id=resource,
                now=unit.clock.now(),
            )

    assert await ask("a", "k", made) is None
    assert await ask("a", "k", uuid4()) == made
    assert await ask("a", None, uuid4()) is None
    with pytest.raises(Conflict) as caught:
        await ask("b", "k", uuid4())
    assert caught.value.code == "idempotency.key-reused"


async def test_a_database_that_is_away_is_an_outage() -> None:
    database = Database("postgresql+asyncpg://x:x@127.0.0.1:1/x", "common")
    with pytest.raises(Outage):
        await database.ping()
    await database.close()
