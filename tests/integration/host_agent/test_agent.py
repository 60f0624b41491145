"""The whole agent over a real bus: commands in, observations, reports and beats out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from tests.conftest import free_port
from tests.integration.host_agent.private_libvirtd import PrivateLibvirtd
from tests.integration.host_agent.spice_client import connect
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common import topology
from roost_common.bus import Bus, Subscription
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.desktop import (
    DomainObservation,
    DomainObserved,
    DomainState,
    EnsureDesktop,
    Power,
    StopReason,
)
from roost_common.contracts.display import CloseDisplay, DisplayTicket, Done, OpenDisplay
from roost_common.contracts.host import HostBeat, HostReport
from roost_common.errors import Conflict, Unavailable
from roost_common.service import running
from roost_host_agent.bootstrap import Agent, build, build_agent
from roost_host_agent.hypervisor.fake import FakeHypervisor, Personality
from roost_host_agent.hypervisor.migration import MigratingHypervisor
from roost_host_agent.settings import Settings

pytestmark = pytest.mark.integration

M = TypeVar("M", bound=Message)


@dataclass
class Listener:
    """Everything agents say, and a voice to speak to them: inventory's and broker's side."""

    bus: Bus
    heard: list[Message] = field(default_factory=list)

    async def hear(self, delivery: Delivery) -> None:
        self.heard.append(delivery.message)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def tell(self, command: EnsureDesktop, node: str = "node-a") -> None:
        await self.bus.publish(command, node=node)

    async def until(
        self, what: str, found: Callable[[DomainObservation], bool]
    ) -> DomainObservation:
        def heard() -> list[DomainObservation]:
            return [m.domain for m in self.of(DomainObserved) if found(m.domain)]

        return (await eventually(heard, f"it is said that {what}"))[-1]


@pytest.fixture
async def listener(amqp_url: str) -> AsyncIterator[Listener]:
    found = Listener(Bus(amqp_url, "inventory"))
    work = topology.service_queue("inventory", DomainObserved)
    samples = topology.samples_queue("inventory", HostBeat, HostReport)
    for queue in (work, samples):
        found.bus.subscribe(Subscription(queue, found.hear))
    task = asyncio.create_task(found.bus.run())
    await found.bus.wait_connected()
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def settings(amqp_url: str, **values: Any) -> Settings:
    return Settings.model_validate(
        {
            "node": "node-a",
            "amqp_url": amqp_url,
            "address": "127.0.0.1",
            "listen": f"127.0.0.1:{free_port()}",
            "beat_interval_s": 0.1,
            "report_interval_s": 0.2,
            "driver": "fake",
            **values,
        }
    )


@asynccontextmanager
async def agent(
    amqp_url: str, hypervisor: MigratingHypervisor | None = None, **values: Any
) -> AsyncIterator[Agent]:
    """Runs inside the block; leaving it is the agent's sudden end."""
    made = build_agent(settings(amqp_url, **values), driver=hypervisor)
    task = asyncio.create_task(made.run())
    await made.bus.wait_connected()
    await eventually(lambda: made.reporter.libvirt_answers, "the agent works")
    yield made
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def off(command: EnsureDesktop, generation: int) -> EnsureDesktop:
    return command.model_copy(update={"generation": generation, "power": Power.OFF, "disk": None})


async def test_a_desktop_goes_on_and_off(listener: Listener, amqp_url: str) -> None:
    command = wanted(generation=1)
    async with agent(amqp_url):
        await listener.tell(command)
        seen = await listener.until("it runs", lambda d: d.state is DomainState.RUNNING)
        assert (seen.desktop_id, seen.generation) == (command.desktop_id, 1)
        await listener.tell(off(command, 2))
        seen = await listener.until("it is gone", lambda d: d.state is DomainState.ABSENT)
        assert (seen.generation, seen.stop_reason) == (2, StopReason.REQUESTED)


async def test_every_command_twice_and_out_of_order(listener: Listener, amqp_url: str) -> None:
    first = wanted(generation=1)
    second = first.model_copy(update={"generation": 3})
    driver = FakeHypervisor()
    async with agent(amqp_url, driver):
        for command in (second, off(first, 2), first, second, first, off(first, 2)):
            await listener.tell(command)
        await eventually(lambda: len(listener.of(DomainObserved)) >= 6, "every command is answered")
        last = max(
            (message.domain for message in listener.of(DomainObserved)),
            key=lambda domain: domain.observed_at,
        )
        assert (last.state, last.generation) == (DomainState.RUNNING, 3)
        assert {m.domain.boot_id for m in listener.of(DomainObserved)} == {last.boot_id}


async def test_commands_wait_for_an_agent_that_is_away(listener: Listener, amqp_url: str) -> None:
    async with agent(amqp_url):
        pass  # its queue stays
    command = wanted()
    await listener.tell(command)
    async with agent(amqp_url):
        await listener.until("it runs", lambda d: d.desktop_id == command.desktop_id)


async def test_a_restarted_agent_reports_at_once_and_touches_nothing(
    listener: Listener, amqp_url: str
) -> None:
    driver, command = FakeHypervisor(), wanted(generation=5)
    async with agent(amqp_url, driver):
        await listener.tell(command)
        before = await listener.until("it runs", lambda d: d.state is DomainState.RUNNING)
        first_agent = listener.of(HostBeat)[0].agent_id
    # Its guest shuts down while nobody looks.
    driver.shut_down(command.desktop_id)
    listener.heard.clear()
    async with agent(amqp_url, driver, report_interval_s=60):
        await eventually(lambda: listener.of(HostReport), "the new agent reports")
        (report,) = listener.of(HostReport)
        (domain,) = report.domains
        assert report.complete
        assert report.agent_id != first_agent
        assert (domain.state, domain.generation, domain.boot_id) == (
            DomainState.SHUTOFF,
            5,
            before.boot_id,
        )


async def test_beats_do_not_wait_for_a_slow_hypervisor(listener: Listener, amqp_url: str) -> None:
    driver = FakeHypervisor(personality=Personality.NEVER)
    async with agent(amqp_url, driver):
        for _ in range(20):
            await listener.tell(wanted())
        count = len(listener.of(HostBeat))
        await eventually(lambda: len(listener.of(HostBeat)) >= count + 5, "it beats on", 5)
        sequences = [beat.sequence for beat in listener.of(HostBeat)]
        assert sequences == sorted(sequences)


async def test_without_libvirt_commands_wait_and_beats_say_so(
    listener: Listener, amqp_url: str
) -> None:
    driver, command = FakeHypervisor(), wanted()
    async with agent(amqp_url, driver):
        driver.away = True
        await listener.tell(command)

        def said() -> bool:
            beats, reports = listener.of(HostBeat), listener.of(HostReport)
            return bool(beats and not beats[-1].libvirt and reports and not reports[-1].complete)

        await eventually(said, "libvirt's absence is said")
        assert listener.of(DomainObserved) == []
        driver.away = False
        await listener.until("it runs", lambda d: d.desktop_id == command.desktop_id)


async def test_screens_are_opened_and_closed_over_the_bus(
    listener: Listener, amqp_url: str
) -> None:
    command = wanted()
    async with agent(amqp_url):
        await listener.tell(command)
        seen = await listener.until("it runs", lambda d: d.state is DomainState.RUNNING)
        assert seen.boot_id is not None
        ask = OpenDisplay(desktop_id=command.desktop_id, boot_id=seen.boot_id)
        ticket = await listener.bus.request(ask, "node-a", DisplayTicket, deadline_s=5)
        assert ticket.boot_id == seen.boot_id
        assert ticket.password.get_secret_value()
        with pytest.raises(Conflict) as refused:
            await listener.bus.request(
                OpenDisplay(desktop_id=command.desktop_id, boot_id=uuid4()),
                "node-a",
                DisplayTicket,
                deadline_s=5,
            )
        assert refused.value.code == "desktop.not-running"
        close = CloseDisplay(desktop_id=command.desktop_id, boot_id=seen.boot_id)
        assert await listener.bus.request(close, "node-a", Done, deadline_s=5) == Done()
    with pytest.raises(Unavailable) as gone:
        await listener.bus.request(ask, "node-a", DisplayTicket, deadline_s=5)
    assert gone.value.code == "host.unreachable"


async def test_many_agents_in_one_process(listener: Listener, amqp_url: str) -> None:
    nodes = [f"node-{number}" for number in range(8)]
    commands = {node: wanted() for node in nodes}
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(agent(amqp_url, node=node))
        for node, command in commands.items():
            await listener.tell(command, node)

        def all_run() -> bool:
            return {(m.node, m.domain.desktop_id) for m in listener.of(DomainObserved)} >= {
                (node, command.desktop_id) for node, command in commands.items()
            }

        await eventually(all_run, "every node runs its desktop")


async def test_as_a_service_it_answers_operators(listener: Listener, amqp_url: str) -> None:
    driver = FakeHypervisor()
    found = settings(amqp_url)
    async with (
        build(found, driver=driver) as parts,
        running(parts, found),
        httpx.AsyncClient(base_url=f"http://{found.listen}") as http,
    ):

        async def ready(status: int = 200) -> bool:
            try:
                return (await http.get("/readyz")).status_code == status
            except httpx.TransportError:
                return False

        await eventually(ready, "it is ready")
        metrics = (await http.get("/metrics")).text
        assert "roost_agent_libvirt_up 1.0" in metrics
        assert 'roost_agent_domains{state="running"}' in metrics
        driver.away = True
        await eventually(lambda: ready(503), "it is not ready")
        assert "libvirt" in (await http.get("/readyz")).json()["failed"]
        assert (await http.get("/healthz")).status_code == 200


async def test_on_real_qemu(listener: Listener, amqp_url: str, libvirtd: PrivateLibvirtd) -> None:
    """The chain that a launch needs: start, ticket, a client that gets in and is seen, stop."""
    command = wanted(generation=1, disk=libvirtd.disk("agent"))
    ca = libvirtd.base / "spice/ca-cert.pem"
    async with agent(
        amqp_url,
        driver="libvirt",
        libvirt_uri=libvirtd.uri,
        virt_type="qemu",
        spice_ca_file=ca,
        spice_host_subject="O=Roost,CN=node-a",
    ):
        await listener.tell(command)
        seen = await listener.until("it runs", lambda d: d.state is DomainState.RUNNING)
        assert seen.spice is not None
        assert seen.spice.port is not None
        assert seen.spice.tls_port is not None
        assert seen.boot_id is not None
        ask = OpenDisplay(desktop_id=command.desktop_id, boot_id=seen.boot_id)
        ticket = await listener.bus.request(ask, "node-a", DisplayTicket, deadline_s=10)
        assert "BEGIN CERTIFICATE" in ticket.ca
        assert ticket.host_subject == "O=Roost,CN=node-a"
        session = await connect(ticket.spice, ticket.password.get_secret_value())
        assert session.accepted
        seen = await listener.until("a client is there", lambda d: bool(d.clients))
        assert seen.clients[0].address == "127.0.0.1"
        await session.close()
        last = seen.observed_at
        await listener.until(
            "the client has gone",
            lambda d: d.observed_at > last and d.state is DomainState.RUNNING and not d.clients,
        )
        await asyncio.to_thread(libvirtd.stop)
        await asyncio.to_thread(libvirtd.start)
        await listener.tell(off(command, 2))
        await listener.until("it is gone", lambda d: d.state is DomainState.ABSENT)
