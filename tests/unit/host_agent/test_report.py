from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.base import Message, Problem
from roost_common.contracts.desktop import DomainState, GuestInfo
from roost_common.contracts.host import HostBeat, HostReport
from roost_common.testing.bus import FakeBus
from roost_common.testing.clock import FakeClock
from roost_host_agent import report
from roost_host_agent.heartbeat import Heartbeat
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.hypervisor.fake import FakeHypervisor
from roost_host_agent.leasehold import Standing
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.report import Reporter

NODE = Node("node-a", "192.0.2.10", uuid4())


class Desk:
    def __init__(self, bus: FakeBus | None = None) -> None:
        self.bus, self.clock, self.driver = bus or FakeBus(), FakeClock(), FakeHypervisor()
        self.swept: list[tuple[DomainView, ...]] = []
        self.may_be_told = True
        self.observer = Observer(NODE, self.bus, self.clock)
        self.reporter = Reporter(
            NODE,
            self.driver,
            self.observer,
            self.bus,
            self.clock,
            interval_s=5,
            sweep=self.sweep,
        )

    def sweep(self, views: tuple[DomainView, ...]) -> bool:
        self.swept.append(views)
        return self.may_be_told

    @property
    def last(self) -> HostReport:
        return self.bus.of(HostReport)[-1]


async def test_a_report_says_the_node_and_everything_on_it() -> None:
    desk, commands = Desk(), [wanted() for _ in range(3)]
    for command in commands:
        await desk.driver.start(command, uuid4())
    await desk.reporter.step()
    assert (desk.last.node, desk.last.address, desk.last.agent_id) == (
        "node-a",
        "192.0.2.10",
        NODE.agent_id,
    )
    assert desk.last.complete
    assert {domain.desktop_id for domain in desk.last.domains} == {c.desktop_id for c in commands}
    assert desk.last.capabilities.cpus == 8
    assert all(domain.stats is not None for domain in desk.last.domains)
    assert all(domain.observed_at == desk.last.sent_at for domain in desk.last.domains)
    assert len(desk.swept) == 1


async def test_without_libvirt_a_report_is_not_complete() -> None:
    desk = Desk()
    desk.driver.away = True
    await desk.reporter.step()
    assert desk.bus.of(HostReport) == []
    assert not desk.reporter.libvirt_answers
    desk.driver.away = False
    await desk.driver.start(wanted(), uuid4())
    await desk.reporter.step()
    assert desk.last.complete
    assert desk.reporter.libvirt_answers
    desk.driver.away = True
    await desk.reporter.step()
    assert not desk.last.complete
    assert desk.last.domains == ()
    assert desk.last.capabilities.cpus == 8


async def test_of_what_may_not_be_told_yet_a_report_says_nothing() -> None:
    desk, refused = Desk(), wanted()
    desk.observer.note_refused(refused.desktop_id, 1, Problem(code="x", detail=""))
    await desk.driver.start(refused, uuid4())
    desk.may_be_told = False
    await desk.reporter.step()
    # Neither that it is there nor that it is not.
    assert (desk.last.complete, desk.last.domains) == (False, ())
    assert desk.reporter.libvirt_answers
    desk.may_be_told = True
    await desk.reporter.step()
    assert desk.last.complete
    (domain,) = desk.last.domains
    assert domain.state is DomainState.RUNNING


async def test_a_libvirtd_that_hangs_does_not_hold_up_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "LOOK_DEADLINE_S", 0.05)
    desk = Desk()
    await desk.reporter.step()
    looks = 0

    async def hang(*_: object) -> tuple[DomainView, ...]:
        nonlocal looks
        looks += 1
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr(desk.driver, "domains", hang)
    for _ in range(3):
        await desk.reporter.step()
    assert [one.complete for one in desk.bus.of(HostReport)] == [True, False, False, False]
    assert looks == 1


async def test_guests_are_said_at_first_and_then_once_a_minute() -> None:
    desk, command = Desk(), wanted()
    await desk.driver.start(command, uuid4())
    desk.driver.guest_tells(command.desktop_id, GuestInfo(os="Debian"))
    told = []
    for _ in range(14):
        await desk.reporter.step()
        told.append(desk.last.domains[0].guest is not None)
        desk.clock.advance(5)
    assert told == [True] + [False] * 11 + [True, False]


async def test_a_bus_that_is_away_costs_one_report() -> None:
    desk = Desk()
    desk.bus.connected = False
    await desk.reporter.step()
    desk.bus.connected = True
    await desk.reporter.step()
    assert desk.last.complete


class CountingBus(FakeBus):
    """Counts what is tried as well."""

    tried = 0

    async def publish(self, message: Message, *args: Any, **kwargs: Any) -> None:
        self.tried += 1
        await super().publish(message, *args, **kwargs)


async def test_beats_go_on_and_count_while_the_bus_is_away() -> None:
    bus, answers = CountingBus(), True
    heartbeat = Heartbeat(NODE, bus, FakeClock(), interval_s=0.01, libvirt=lambda: answers)
    task = asyncio.create_task(heartbeat.run())

    await eventually(lambda: bus.tried >= 2, "it beats")
    bus.connected, answers = False, False
    before = bus.tried
    await eventually(lambda: bus.tried >= before + 3, "it tries on")
    bus.connected = True
    before = bus.tried
    await eventually(lambda: bus.tried >= before + 2, "it beats again")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = bus.of(HostBeat)
    sequences = [beat.sequence for beat in found]
    assert sequences == sorted(set(sequences))
    assert max(later - sooner for sooner, later in pairwise(sequences)) > 3
    assert (found[0].libvirt, found[-1].libvirt) == (True, False)
    assert {beat.agent_id for beat in found} == {NODE.agent_id}


async def test_a_beat_says_how_the_lease_stands() -> None:
    bus, witness = FakeBus(), uuid4()
    asked: list[int] = []

    def standing(sequence: int) -> Standing:
        # Before it is sent: a grant counts from here.
        assert len(bus.published) == len(asked)
        asked.append(sequence)
        return Standing(lease_s=45, armed=True, witness=witness)

    clock = FakeClock()
    heartbeat = Heartbeat(NODE, bus, clock, interval_s=1, libvirt=lambda: True, lease=standing)
    await heartbeat.beat()
    await heartbeat.beat()
    beats = bus.of(HostBeat)
    assert [beat.sequence for beat in beats] == asked == [1, 2]
    assert (beats[0].lease_s, beats[0].lease_armed, beats[0].witness) == (45, True, witness)
    assert beats[0].address == NODE.address


async def test_the_first_report_is_tried_again_at_once() -> None:
    bus = CountingBus()
    desk = Desk(bus)  # its interval is five seconds
    bus.connected = False
    task = asyncio.create_task(desk.reporter.run())

    await eventually(lambda: bus.tried > 0, "it tries to report")
    assert not bus.of(HostReport)
    bus.connected = True
    await eventually(lambda: bus.of(HostReport), "it reports", 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
