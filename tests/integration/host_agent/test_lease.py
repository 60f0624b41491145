"""The node's own lease over a real bus: granted, silent, and the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.integration.host_agent.node import NodeProcesses
from tests.integration.host_agent.test_agent import Listener, listener, settings
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import DomainObserved, DomainState
from roost_common.contracts.host import HostBeat, HostReport, LeaseGranted
from roost_common.contracts.spec import DesktopSpec, HaPolicy
from roost_common.service import running
from roost_host_agent import lease_file
from roost_host_agent.bootstrap import Agent, build, build_agent
from roost_host_agent.hypervisor.fake import FakeHypervisor
from roost_host_agent.keeper import LeaseEnded
from roost_host_agent.lease_file import boot_time
from roost_host_agent.leaving import LEASE_ENDED

pytestmark = pytest.mark.integration

__all__ = ["listener"]

LEASE_S = 2.0
LONGER_S = 8.0
"""Longer than others are told of a grant."""


class Monitor:
    """ha-monitor's part: grants what it hears, to whom it wants to."""

    def __init__(self, heard: Listener) -> None:
        self._listener = heard
        self.grants_to: set[str] = {"node-a"}

    async def run(self) -> None:
        while True:
            newest = {beat.node: beat for beat in self._listener.of(HostBeat)}
            for node in self.grants_to & newest.keys():
                beat = newest[node]
                grant = LeaseGranted(
                    node=node, agent_id=beat.agent_id, sequence=beat.sequence, armed=True
                )
                await self._listener.bus.publish(grant, node=node)
            await asyncio.sleep(0.1)


@pytest.fixture
async def monitor(listener: Listener) -> AsyncIterator[Monitor]:
    found = Monitor(listener)
    task = asyncio.create_task(found.run())
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Run:
    """One run of an agent in this process."""

    def __init__(self, made: Agent) -> None:
        self.task = asyncio.create_task(made.run())
        self.agent = made

    def because_of_its_lease(self) -> bool:
        error = self.task.exception()
        return isinstance(error, BaseExceptionGroup) and error.split(LeaseEnded)[0] is not None


@asynccontextmanager
async def agent(
    amqp_url: str, hypervisor: FakeHypervisor, lease_s: float = LEASE_S, **values: Any
) -> AsyncIterator[Run]:
    # Shorter than an operator may have it.
    wished = settings(amqp_url, **values).model_copy(update={"lease_s": lease_s})
    run = Run(build_agent(wished, driver=hypervisor))
    yield run
    run.task.cancel()
    await asyncio.gather(run.task, return_exceptions=True)


def runs(driver: FakeHypervisor) -> set[UUID]:
    return {
        domain.view.mark.desktop_id
        for domain in driver._domains.values()
        if domain.view.state is DomainState.RUNNING
    }


async def armed(listener: Listener, node: str = "node-a") -> None:
    def says_so() -> bool:
        beats = [beat for beat in listener.of(HostBeat) if beat.node == node]
        return bool(beats) and beats[-1].lease_armed

    await eventually(says_so, f"{node} holds an armed lease")


async def test_granted_and_then_silent(listener: Listener, monitor: Monitor, amqp_url: str) -> None:
    driver = FakeHypervisor()
    restarted = wanted()
    kept = wanted(spec=DesktopSpec(vcpus=1, memory_mib=128, ha=HaPolicy(restart=False)))
    async with agent(amqp_url, driver) as run:
        await armed(listener)
        for command in (restarted, kept):
            await listener.tell(command)
        await listener.until("it runs", lambda d: d.desktop_id == kept.desktop_id)
        beat = listener.of(HostBeat)[-1]
        assert (beat.lease_s, beat.address, beat.witness) == (LEASE_S, "127.0.0.1", None)
        since = boot_time()
        await eventually(
            lambda: boot_time() - since > 1.5 * LEASE_S,
            "it was granted for longer than one lease",
        )
        assert runs(driver) == {restarted.desktop_id, kept.desktop_id}
        monitor.grants_to.clear()
        await eventually(run.task.done, "the run ends")
        assert run.because_of_its_lease()
    assert runs(driver) == {kept.desktop_id}
    # Another run on the same node is an ordinary one.
    listener.heard.clear()
    monitor.grants_to.add("node-a")
    async with agent(amqp_url, driver) as run:
        await armed(listener)
        # What waited for the run that is over starts nothing.
        (meant,) = {beat.agent_id for beat in listener.of(HostBeat)}
        await listener.tell(restarted.model_copy(update={"agent_id": beat.agent_id}))
        await listener.tell(wanted(desktop_id=UUID(int=5), agent_id=meant))
        await listener.until("the newer one runs", lambda d: d.desktop_id == UUID(int=5))
        assert runs(driver) == {kept.desktop_id, UUID(int=5)}


async def test_whoever_is_found_here_is_on_the_guards_list_before_it_is_told_of(
    listener: Listener, amqp_url: str, tmp_path: Path
) -> None:
    driver, path = FakeHypervisor(), tmp_path / "lease.json"

    def listed() -> set[UUID]:
        found = lease_file.read(path)
        return set() if found is None else {UUID(one.uuid) for one in found.domains}

    def reported(desktop_id: UUID) -> bool:
        reports = listener.of(HostReport)
        return any(one.desktop_id == desktop_id for report in reports for one in report.domains)

    def told(desktop_id: UUID) -> bool:
        return any(one.domain.desktop_id == desktop_id for one in listener.of(DomainObserved))

    # Of the first one only a report tells, of those that come later their events do as well. The
    # lease is judged, and the list written with it, much more rarely than that.
    first = wanted()
    await driver.start(first, uuid4())
    async with agent(amqp_url, driver, beat_interval_s=1, lease_file=path):
        await eventually(partial(reported, first.desktop_id), "a report tells of it")
        assert first.desktop_id in listed()
        for _ in range(3):
            later = wanted()
            await driver.start(later, uuid4())
            await eventually(partial(told, later.desktop_id), "an event tells of it")
            assert later.desktop_id in listed()


async def test_while_nobody_is_granted_anything_nothing_stops(
    listener: Listener, monitor: Monitor, amqp_url: str, tmp_path: Path
) -> None:
    driver, command = FakeHypervisor(), wanted()
    monitor.grants_to = {"node-a", "node-b"}
    async with (
        agent(amqp_url, driver, lease_s=LONGER_S, ha_dir=tmp_path) as run,
        # It has no lease to end, and its grants are seen all the same.
        agent(amqp_url, FakeHypervisor(), lease_s=0, node="node-b", ha_dir=tmp_path),
    ):
        await armed(listener)
        await listener.tell(command)
        await listener.until("it runs", lambda d: d.desktop_id == command.desktop_id)

        def one_directory() -> bool:
            witnesses = {beat.node: beat.witness for beat in listener.of(HostBeat)}
            return len(witnesses) == 2 and len(set(witnesses.values()) - {None}) == 1

        await eventually(one_directory, "both know the directory")
        # From their very first beats: else ha-monitor would think that one has lost it.
        assert all(beat.witness is not None for beat in listener.of(HostBeat))
        monitor.grants_to.clear()
        since = boot_time()
        await eventually(
            lambda: boot_time() - since > 1.5 * LONGER_S or run.task.done(),
            "the lease would have ended",
        )
        assert runs(driver) == {command.desktop_id}
        # One of them is heard again, and this one is not.
        monitor.grants_to = {"node-b"}
        await eventually(run.task.done, "the run ends")
        assert run.because_of_its_lease()
    assert runs(driver) == set()


async def test_as_a_service_it_leaves_with_a_status_of_its_own(
    listener: Listener, monitor: Monitor, amqp_url: str
) -> None:
    found = settings(amqp_url).model_copy(update={"lease_s": LEASE_S})
    left: list[int] = []
    with pytest.raises(BaseExceptionGroup) as ended:
        async with (
            build(found, driver=FakeHypervisor(), leave=left.append) as parts,
            running(parts, found),
        ):
            await armed(listener)
            monitor.grants_to.clear()
            async with asyncio.timeout(60):
                await asyncio.Event().wait()  # cut short by the end of the service
    assert ended.group_contains(LeaseEnded)
    assert left == [LEASE_ENDED]


@pytest.fixture
def node(tmp_path: Path, amqp_url: str) -> Iterator[NodeProcesses]:
    with ExitStack() as stack:
        environment = os.environ | {
            "ROOST_HOST_AGENT_NODE": "node-a",
            "ROOST_HOST_AGENT_AMQP_URL": amqp_url,
            "ROOST_HOST_AGENT_ADDRESS": "127.0.0.1",
            "ROOST_HOST_AGENT_LISTEN": settings(amqp_url).listen,
            "ROOST_HOST_AGENT_DRIVER": "fake",
            "ROOST_HOST_AGENT_LEASE_FILE": str(tmp_path / "lease.json"),
            "ROOST_HOST_AGENT_LEASE_S": "10",
        }
        yield NodeProcesses(tmp_path, stack, environment)


async def test_a_frozen_agents_desktops_are_killed_and_it_ends_when_it_thaws(
    listener: Listener, monitor: Monitor, node: NodeProcesses
) -> None:
    process = node.module("roost_host_agent")
    node.module("roost_host_agent.guard")
    command = wanted()
    domain = node.domain(command.desktop_id)
    await armed(listener)
    await listener.tell(command)

    def listed() -> bool:
        found = lease_file.read(node.lease)
        return found is not None and [one.uuid for one in found.domains] == [
            str(command.desktop_id)
        ]

    await eventually(listed, "the guard knows of it")
    process.send_signal(signal.SIGSTOP)
    await eventually(lambda: domain.poll() is not None, "its desktop is killed", 30)
    assert domain.returncode == -signal.SIGKILL
    process.send_signal(signal.SIGCONT)
    await eventually(lambda: process.poll() is not None, "the run ends", 30)
    assert process.returncode == LEASE_ENDED
    assert "lease.ended" in node.log


async def test_it_ends_at_once_and_quietly_when_it_is_told_to(
    listener: Listener, node: NodeProcesses
) -> None:
    process = node.module("roost_host_agent")
    await eventually(lambda: listener.of(HostReport), "it works")
    process.terminate()
    assert await asyncio.to_thread(process.wait, 10) == 0
    lines = node.log.splitlines()
    assert all(line.startswith("{") for line in lines), [line for line in lines if line[0] != "{"]
    assert not any('"level": "warning"' in line or '"error"' in line for line in lines)
