"""The bus against a real RabbitMQ: delivery, its three ends, questions, a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import uuid4

import aio_pika
import pytest
from tests.buses import Recorder, connected
from tests.polling import eventually

from roost_common import topology
from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.contracts.base import Body, Query
from roost_common.contracts.desktop import DeleteDesktop, EnsureDesktop, Power, SetDesktopPower
from roost_common.contracts.display import Done, RebootDesktop
from roost_common.contracts.host import HostApproved
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Conflict, Outage, RoostError, Unavailable
from roost_lab.rabbitmq import RabbitServer

pytestmark = pytest.mark.integration

WORK = topology.service_queue("inventory", DeleteDesktop, HostApproved)


async def test_an_event_arrives_whole(amqp_url: str) -> None:
    recorder = Recorder()
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        event = HostApproved(node="node-a")
        envelope = bus.envelope(event, correlation_id="request-1")
        await bus.publish(event, envelope)
        await eventually(lambda: recorder.seen, "it arrives")
    [delivery] = recorder.seen
    assert delivery.message == event
    assert delivery.envelope == envelope
    assert delivery.envelope.correlation_id == "request-1"


async def test_a_retryable_error_brings_the_message_again(amqp_url: str) -> None:
    recorder = Recorder(Unavailable("x.busy", "Busy."))
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        await bus.publish(DeleteDesktop(desktop_id=uuid4()))
        await eventually(lambda: len(recorder.seen) == 2, "it comes again")
    assert recorder.seen[0].envelope.id == recorder.seen[1].envelope.id


async def test_an_outage_is_waited_out_with_the_message_in_hand(amqp_url: str) -> None:
    recorder = Recorder(Outage("database.unavailable", "Away."))
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        await bus.publish(DeleteDesktop(desktop_id=uuid4()))
        await eventually(lambda: len(recorder.seen) == 2, "it comes again")
    assert not recorder.seen[1].redelivered


@pytest.mark.parametrize("error", [Conflict("x.refused", "No."), RuntimeError("a bug")])
async def test_any_other_error_is_dead_lettered(amqp_url: str, error: Exception) -> None:
    recorder = Recorder(error)
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        await bus.publish(DeleteDesktop(desktop_id=uuid4()))
        await eventually(lambda: recorder.seen, "it arrives")
        dead = await next_dead(amqp_url)
    assert len(recorder.seen) == 1
    assert dead == str(recorder.seen[0].envelope.id)


async def next_dead(url: str) -> str | None:
    """The id of the oldest message in the graveyard, which no service ever consumes."""
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(topology.DEAD)
        incoming = await eventually(lambda: queue.get(fail=False), "a message is dead")
        await incoming.ack()
        return incoming.message_id


async def test_an_unknown_message_is_dead_lettered_and_stops_nothing(amqp_url: str) -> None:
    recorder = Recorder()
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        connection = await aio_pika.connect(amqp_url)
        async with connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange(topology.EVENTS)
            stranger = aio_pika.Message(b"\xff{", type="host.approved.v1")
            await exchange.publish(stranger, "host.approved.v1")
        await bus.publish(HostApproved(node="node-b"))
        await eventually(lambda: recorder.seen, "the next one arrives")
    assert [d.message for d in recorder.seen] == [HostApproved(node="node-b")]


async def test_a_command_that_nobody_takes_is_an_error(amqp_url: str) -> None:
    async with connected(Bus(amqp_url, "test")) as bus:
        with pytest.raises(Unavailable) as caught:
            await bus.publish(SetDesktopPower(desktop_id=uuid4(), power=Power.ON))
    assert caught.value.code == "bus.no-consumer"


async def test_a_command_reaches_its_node_alone(amqp_url: str) -> None:
    here, there = Recorder(), Recorder()
    command = EnsureDesktop(
        desktop_id=uuid4(),
        desktop_name="d-1",
        generation=1,
        power=Power.OFF,
        spec=DesktopSpec(),
        template=TemplateRef(id=uuid4(), name="t", version=1),
    )
    async with connected(
        Bus(amqp_url, "test"),
        Subscription(topology.node_queue("node-a.site", EnsureDesktop), here),
        Subscription(topology.node_queue("node-b.site", EnsureDesktop), there),
    ) as bus:
        await bus.publish(command, node="node-b.site")
        await eventually(lambda: there.seen, "it arrives")
    assert not here.seen
    assert there.seen[0].message == command


async def test_a_question_is_answered_or_refused(amqp_url: str) -> None:
    async def answer(query: Query) -> Body:
        assert isinstance(query, RebootDesktop)
        if query.force:
            raise Conflict("desktop.not-running", "It does not run.")
        return Done()

    async with connected(
        Bus(amqp_url, "test"), QuerySubscription(topology.query_queue("node-a"), answer)
    ) as bus:
        question = RebootDesktop(desktop_id=uuid4())
        assert await bus.request(question, "node-a", Done, deadline_s=5) == Done()
        refused = RebootDesktop(desktop_id=uuid4(), force=True)
        with pytest.raises(Conflict) as caught:
            await bus.request(refused, "node-a", Done, deadline_s=5)
    assert caught.value.code == "desktop.not-running"


async def test_a_question_to_nobody_fails_at_once_and_a_silent_node_in_time(amqp_url: str) -> None:
    async def silent(_query: Query) -> Body:
        await asyncio.Event().wait()
        return Done()

    started = asyncio.get_running_loop().time()
    bus = Bus(amqp_url, "test")
    bus.subscribe(QuerySubscription(topology.query_queue("node-a"), silent))
    task = asyncio.create_task(bus.run())
    await bus.wait_connected()
    for node, deadline in (("node-z", 30.0), ("node-a", 0.2)):
        with pytest.raises(Unavailable) as caught:
            await bus.request(RebootDesktop(desktop_id=uuid4()), node, Done, deadline_s=deadline)
        assert caught.value.code == "host.unreachable"
    assert asyncio.get_running_loop().time() - started < 15
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_lost_connection_comes_back_by_itself(amqp_url: str, rabbit: RabbitServer) -> None:
    recorder = Recorder()
    async with connected(Bus(amqp_url, "test"), Subscription(WORK, recorder)) as bus:
        await bus.publish(HostApproved(node="before"))
        await eventually(lambda: len(recorder.seen) == 1, "the first arrives")
        rabbit.ctl("close_all_connections", "--vhost", amqp_url.rsplit("/", 1)[1], "test")
        await eventually(lambda: not bus.connected, "the connection is lost")
        await bus.publish(HostApproved(node="after"))
        await eventually(lambda: len(recorder.seen) == 2, "the second arrives")
    assert recorder.seen[1].message == HostApproved(node="after")


async def test_without_a_bus_publishing_fails_in_time() -> None:
    bus = Bus("amqp://nobody:x@127.0.0.1:1/", "test")
    task = asyncio.create_task(bus.run())
    with pytest.raises(RoostError) as caught:
        await bus.publish(HostApproved(node="a"), deadline_s=0.3)
    assert caught.value.code == "bus.unavailable"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["cancelled", "a bare exception"])
async def test_what_the_library_leaves_behind_is_a_lost_bus(amqp_url: str, how: str) -> None:
    """When a connection breaks, it cancels what callers wait for, but not the callers."""

    async def broken(*_: object, **__: object) -> None:
        future = asyncio.get_running_loop().create_future()
        if how == "cancelled":
            future.cancel()
        else:
            future.set_exception(Exception())
        await future

    async with connected(Bus(amqp_url, "test")) as bus:
        assert bus._link is not None
        for exchange in (*bus._link.exchanges.values(), bus._link.publishing.default_exchange):
            exchange.publish = broken  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await bus.publish(HostApproved(node="kvm1", host_id=uuid4()))
        with pytest.raises(Unavailable):
            question = RebootDesktop(desktop_id=uuid4(), boot_id=uuid4(), force=False)
            await bus.request(question, "kvm1", Done, deadline_s=5)


async def test_who_publishes_can_still_be_cancelled(amqp_url: str) -> None:
    async with connected(Bus(amqp_url, "test")) as bus:
        assert bus._link is not None
        waiting = asyncio.Event()

        async def hangs(*_: object, **__: object) -> None:
            waiting.set()
            await asyncio.Event().wait()

        for exchange in bus._link.exchanges.values():
            exchange.publish = hangs  # type: ignore[method-assign]
        task = asyncio.create_task(bus.publish(HostApproved(node="kvm1", host_id=uuid4())))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
