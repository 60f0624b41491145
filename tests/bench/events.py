"""Events through outbox, bus and inbox, against bare confirmed publishes on the same bus.

The bare ones are the AMQP library's alone: bytes that are ready, and nothing of Roost's.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter

import aio_pika
import sqlalchemy as sa
from tests.bench.report import Figure
from tests.bench.servers import Servers

from roost_common import topology
from roost_common.bus import Bus, Subscription
from roost_common.clock import SystemClock
from roost_common.contracts.base import Delivery
from roost_common.contracts.host import HostApproved
from roost_common.db import Database, new_metadata
from roost_common.outbox import BATCH, Relay, UnitOfWork, add_message_tables

EVENTS = 3000
WRITERS = 20
QUEUE = topology.service_queue("inventory", HostApproved)
BARE = "bench.bare"


async def measure(servers: Servers) -> list[Figure]:
    """Events a second: said in transactions by twenty writers, until all are handled."""
    servers.postgres.create_database("events")
    database = Database(servers.postgres.url("events"), "common", pool=WRITERS + 10)
    metadata = new_metadata()
    add_message_tables(metadata)
    async with database.engine.begin() as connection:
        await connection.execute(sa.text("create schema common"))
        await connection.run_sync(metadata.create_all)
    unit = UnitOfWork(database, "bench", SystemClock())
    handled = 0
    all_handled = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        nonlocal handled
        async with unit.handling(delivery):
            handled += 1
        if handled >= EVENTS:
            all_handled.set()

    bus = Bus(servers.amqp_url, "bench")
    bus.subscribe(Subscription(QUEUE, handle, prefetch=32))
    tasks = [asyncio.create_task(bus.run())]
    await bus.wait_connected()
    tasks.append(asyncio.create_task(Relay(database, unit, bus).run()))

    async def write(count: int) -> None:
        for number in range(count):
            async with unit() as transaction:
                transaction.emit(HostApproved(node=f"n{number}"))

    started = perf_counter()
    await asyncio.gather(*(write(EVENTS // WRITERS) for _ in range(WRITERS)))
    async with asyncio.timeout(300):
        await all_handled.wait()
    ours = EVENTS / (perf_counter() - started)

    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await database.close()
    bare = await _bare(servers.amqp_url)
    return [Figure("events through outbox, bus and inbox", "/s", ours, bare)]


async def _bare(amqp_url: str) -> float:
    """Publishes a second: as many, as large, persistent and confirmed, with as many in flight as
    the relay has.

    They go to an exchange and a queue of their own, declared as Roost declares its own.
    """
    bodies = iter(
        [
            HostApproved(node=f"n{number % (EVENTS // WRITERS)}").model_dump_json().encode()
            for number in range(EVENTS)
        ]
    )
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        topic = aio_pika.ExchangeType.TOPIC
        exchange = await channel.declare_exchange(BARE, topic, durable=True)
        queue = await channel.declare_queue(BARE, durable=QUEUE.durable, arguments=QUEUE.arguments)
        await queue.bind(exchange, HostApproved.name)

        async def publish() -> None:
            for body in bodies:
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, HostApproved.name, mandatory=False)

        started = perf_counter()
        await asyncio.gather(*(publish() for _ in range(BATCH)))
        bare = EVENTS / (perf_counter() - started)
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()
    return bare
