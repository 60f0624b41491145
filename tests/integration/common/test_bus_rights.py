"""What a node's own user may do on a real RabbitMQ, and what comes of it when it tries more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused
from tests.buses import Recorder, connected
from tests.polling import eventually

from roost_common import topology
from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.bus.wire import to_amqp
from roost_common.clock import SystemClock
from roost_common.contracts.base import Body, Query
from roost_common.contracts.desktop import EnsureDesktop, Power
from roost_common.contracts.display import Done, RebootDesktop
from roost_common.contracts.host import FencedBy, FenceScope, HostBeat, HostFenced, LeaseGranted
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Unavailable
from roost_lab import rabbit_definitions
from roost_lab.rabbitmq import RabbitServer

pytestmark = pytest.mark.integration

SERVICES = ("inventory", "broker", "ha-monitor", "imaging")
NODES = ("node-a", "node-b")
WORK = topology.service_queue("inventory", HostFenced)
SAMPLES = topology.samples_queue("inventory", HostBeat)
OWN = "roost.host-agent.node-a.telemetry.0f"
"""A name at which node-a may make what it likes."""
FENCED = "host.fenced.v1"
OBSERVED = "domain.observed.v1"
"""A routing key that an agent may use."""
EXCHANGES = (*topology.EXCHANGE_OF.values(), topology.REPLIES, topology.DEAD)


class Site:
    """A virtual host with the users and permissions of a site."""

    def __init__(self, rabbit: RabbitServer) -> None:
        self._rabbit = rabbit

    def url(self, user: str) -> str:
        return self._rabbit.url(user, user, rabbit_definitions.VHOST)

    def service(self, name: str) -> str:
        return self.url(rabbit_definitions.service_user(name))

    def agent(self, node: str) -> str:
        return self.url(rabbit_definitions.agent_user(node))


@pytest.fixture(scope="module")
def _users(rabbit: RabbitServer) -> Site:
    site = Site(rabbit)
    definitions = rabbit_definitions.render(
        {service: rabbit_definitions.service_user(service) for service in SERVICES},
        {node: rabbit_definitions.agent_user(node) for node in NODES},
        rabbit_definitions.LAB_USER,
    )
    path = rabbit.root / "site.json"
    path.write_text(json.dumps(definitions))
    path.chmod(0o644)
    rabbit.ctl("import_definitions", str(path))
    return site


@pytest.fixture
async def site(_users: Site) -> AsyncIterator[Site]:
    """The site with nothing left in its queues by the test."""
    yield _users
    async with opened(_users.url(rabbit_definitions.LAB_USER)) as channel:
        for queue in (WORK.name, *(topology.node_queue(node).name for node in NODES)):
            await channel.queue_delete(queue)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    """A channel with confirms, without any of the bus module's manners."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        yield await channel.get_underlay_channel()


def agent_bus(url: str) -> Bus:
    return Bus(url, "host-agent", central=False)


def ensure_desktop() -> EnsureDesktop:
    return EnsureDesktop(
        desktop_id=uuid4(),
        desktop_name="d-1",
        generation=1,
        power=Power.OFF,
        spec=DesktopSpec(),
        template=TemplateRef(id=uuid4(), name="t", version=1),
    )


def beat(node: str) -> HostBeat:
    return HostBeat(node=node, agent_id=uuid4(), sequence=1, sent_at=SystemClock().now())


def fenced(node: str) -> HostFenced:
    return HostFenced(
        node=node,
        incident_id=uuid4(),
        by=FencedBy.DEVICE,
        scope=FenceScope.ALL,
        at=SystemClock().now(),
    )


async def done(_query: Query) -> Body:
    return Done()


# --- what it may ----------------------------------------------------------------------------------


async def test_an_agent_hears_speaks_and_answers(site: Site) -> None:
    ordered, granted, heard = Recorder(), Recorder(), Recorder()
    inventory, broker = (
        Bus(site.service("inventory"), "inventory"),
        Bus(site.service("broker"), "broker"),
    )
    async with (
        connected(inventory, Subscription(SAMPLES, heard)),
        connected(broker),
        connected(
            agent_bus(site.agent("node-a")),
            Subscription(topology.node_queue("node-a", EnsureDesktop), ordered),
            Subscription(topology.node_samples_queue("node-a", uuid4().hex, LeaseGranted), granted),
            QuerySubscription(topology.query_queue("node-a"), done),
        ) as agent,
    ):
        await agent.publish(beat("node-a"))
        await inventory.publish(ensure_desktop(), node="node-a")
        grant = LeaseGranted(node="node-a", agent_id=uuid4(), sequence=1, armed=True)
        await inventory.publish(grant, node="node-a")
        await eventually(lambda: ordered.seen and granted.seen and heard.seen, "all arrives")
        for asker in (inventory, broker):
            question = RebootDesktop(desktop_id=uuid4())
            assert await asker.request(question, "node-a", Done, deadline_s=10) == Done()


async def test_an_answer_to_somebody_who_is_gone_disturbs_nobody(site: Site) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slowly(_query: Query) -> Body:
        asked.set()
        await answered.wait()
        return Done()

    question = RebootDesktop(desktop_id=uuid4())
    queries = QuerySubscription(topology.query_queue("node-a"), slowly)
    async with (
        connected(Bus(site.service("inventory"), "inventory")) as inventory,
        connected(agent_bus(site.agent("node-a")), queries) as agent,
    ):
        link = agent._link
        async with connected(Bus(site.service("broker"), "broker")) as broker:
            waiting = asyncio.create_task(broker.request(question, "node-a", Done, deadline_s=10))
            await asked.wait()
        with pytest.raises(Unavailable):
            await waiting
        answered.set()
        assert await inventory.request(question, "node-a", Done, deadline_s=10) == Done()
        assert agent._link is link


async def test_an_agent_waits_for_the_exchanges(amqp_url: str) -> None:
    ordered = Recorder()
    agent = agent_bus(amqp_url)
    agent.subscribe(Subscription(topology.node_queue("node-a", EnsureDesktop), ordered))
    task = asyncio.create_task(agent.run())
    with pytest.raises(Unavailable):
        await agent.wait_connected(1)
    async with connected(Bus(amqp_url, "inventory")) as inventory:
        await agent.wait_connected()
        await inventory.publish(ensure_desktop(), node="node-a")
        await eventually(lambda: ordered.seen, "it works as ever")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- what it may not ------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["roost.inventory", "roost.host-agent.node-b"])
async def test_an_agent_reaches_no_queue_by_its_name(site: Site, queue: str) -> None:
    inventory, other = Recorder(), Recorder()
    fence, order = fenced("node-b"), ensure_desktop()
    async with (
        connected(
            Bus(site.service("inventory"), "inventory"), Subscription(WORK, inventory)
        ) as bus,
        connected(
            agent_bus(site.agent("node-b")),
            Subscription(topology.node_queue("node-b", EnsureDesktop), other),
        ),
    ):
        forged = fence if queue == WORK.name else order
        message = to_amqp(forged.model_dump_json().encode(), bus.envelope(forged), persistent=True)
        async with await aio_pika.connect(site.agent("node-a")) as connection:
            channel = await connection.channel(on_return_raises=True)
            with pytest.raises(ChannelAccessRefused):
                await channel.default_exchange.publish(message, queue)
        # What comes after it is the first to be heard.
        await bus.publish(fence)
        await bus.publish(order, node="node-b")
        await eventually(lambda: inventory.seen and other.seen, "the true ones arrive")
    assert len(inventory.seen) == len(other.seen) == 1


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_agent_changes_no_exchange(site: Site, exchange: str) -> None:
    async with connected(Bus(site.service("inventory"), "inventory")):
        kind = "fanout" if exchange == topology.DEAD else "topic"
        async with opened(site.agent("node-a")) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.exchange_declare(exchange, exchange_type=kind, durable=True)
        async with opened(site.agent("node-a")) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.exchange_delete(exchange)


async def test_an_agent_answers_to_reply_queues_alone_and_reads_none(site: Site) -> None:
    async with connected(Bus(site.service("broker"), "broker")) as broker:
        assert broker._link is not None
        assert broker._link.replies is not None
        for key in ("roost.inventory", "roost.host-agent.node-b", "#"):
            async with opened(site.agent("node-a")) as channel:
                with pytest.raises(ChannelAccessRefused):
                    await channel.basic_publish(b"", exchange=topology.REPLIES, routing_key=key)
        for reader in (site.agent("node-a"), site.service("imaging")):
            async with opened(reader) as channel:
                own = OWN if reader == site.agent("node-a") else "roost.imaging.telemetry.0f"
                await channel.queue_declare(own, exclusive=True)
                with pytest.raises(ChannelAccessRefused):
                    await channel.queue_bind(own, topology.REPLIES, broker._link.replies)


@pytest.mark.parametrize(
    "arguments",
    [{"x-dead-letter-exchange": ""}, {"x-dead-letter-exchange": topology.COMMANDS}],
)
async def test_an_agents_dead_go_nowhere_else(site: Site, arguments: dict[str, Any]) -> None:
    async with connected(Bus(site.service("inventory"), "inventory")):
        async with opened(site.agent("node-a")) as channel:
            with pytest.raises(ChannelAccessRefused):
                await channel.queue_declare(OWN, exclusive=True, arguments=arguments)
        # Nor what no queue takes.
        async with opened(site.agent("node-a")) as channel:
            alternate = {"alternate-exchange": arguments["x-dead-letter-exchange"]}
            with pytest.raises(ChannelAccessRefused):
                await channel.exchange_declare(OWN, exchange_type="fanout", arguments=alternate)


# --- what RabbitMQ lets it, and nobody believes ---------------------------------------------------


async def under_a_key_of_its_own(channel: Any, message: aio_pika.Message) -> None:
    await send(channel, message, topology.EVENTS, OBSERVED)


async def with_a_second_key(channel: Any, message: aio_pika.Message) -> None:
    message.headers["CC"] = [FENCED]
    await send(channel, message, topology.EVENTS, OBSERVED)


async def by_an_exchange_of_its_own(channel: Any, message: aio_pika.Message) -> None:
    await channel.exchange_declare(OWN, exchange_type="fanout", auto_delete=True)
    await channel.exchange_bind(destination=topology.EVENTS, source=OWN, routing_key="")
    await send(channel, message, OWN, FENCED)
    await channel.exchange_delete(OWN)


async def as_what_no_queue_took(channel: Any, message: aio_pika.Message) -> None:
    arguments = {"alternate-exchange": topology.EVENTS}
    await channel.exchange_declare(OWN, exchange_type="fanout", arguments=arguments)
    await send(channel, message, OWN, FENCED)
    await channel.exchange_delete(OWN)


async def as_a_dead_letter(channel: Any, message: aio_pika.Message) -> None:
    arguments = {
        "x-dead-letter-exchange": topology.EVENTS,
        "x-dead-letter-routing-key": FENCED,
        "x-message-ttl": 0,
    }
    await channel.exchange_declare(OWN, exchange_type="fanout")
    await channel.queue_declare(OWN, arguments=arguments)
    await channel.queue_bind(OWN, OWN)
    await send(channel, message, OWN, "")
    await channel.queue_delete(OWN)
    await channel.exchange_delete(OWN)


async def send(channel: Any, message: aio_pika.Message, exchange: str, key: str) -> None:
    await channel.basic_publish(
        message.body, exchange=exchange, routing_key=key, properties=message.properties
    )


@pytest.mark.parametrize(
    "way",
    [
        under_a_key_of_its_own,
        with_a_second_key,
        by_an_exchange_of_its_own,
        as_what_no_queue_took,
        as_a_dead_letter,
    ],
)
async def test_a_forged_event_is_dead_lettered(
    site: Site, way: Callable[[Any, aio_pika.Message], Awaitable[None]]
) -> None:
    heard = Recorder()
    forged, true = (fenced(node) for node in NODES)
    queue = topology.QueueSpec(
        WORK.name, WORK.durability, (*WORK.bindings, (topology.EVENTS, OBSERVED))
    )
    async with connected(
        Bus(site.service("inventory"), "inventory"), Subscription(queue, heard)
    ) as bus:
        envelope = bus.envelope(forged)
        message = to_amqp(forged.model_dump_json().encode(), envelope, persistent=True)
        async with opened(site.agent("node-a")) as channel:
            await way(channel, message)
        async with await aio_pika.connect(site.url(rabbit_definitions.LAB_USER)) as connection:
            await eventually(lambda: dead(connection, str(envelope.id)), "it is refused")
        await bus.publish(true)
        await eventually(lambda: heard.seen, "the true one arrives")
    assert [delivery.message for delivery in heard.seen] == [true]


async def dead(connection: aio_pika.abc.AbstractConnection, message_id: str) -> bool:
    """Whether it is what was buried last; takes it out."""
    channel: AbstractChannel = await connection.channel()
    queue = await channel.get_queue(topology.DEAD)
    incoming = await queue.get(fail=False, no_ack=True)
    await channel.close()
    return incoming is not None and incoming.message_id == message_id
