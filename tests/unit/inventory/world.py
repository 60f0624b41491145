"""Inventory's decisions against nodes, imaging and a bus that loses, repeats, delays and swaps.

The plan, placement and a desktop's transitions are the real ones; only database and bus are left
out, so that thousands of histories can be lived through.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tests.unit.inventory.stage import SMALL, TEMPLATE, FakeImaging, nodes

from roost_common.contracts.base import Message, Problem
from roost_common.contracts.desktop import DesktopState, DomainObserved, EnsureDesktop, Power
from roost_common.contracts.disk import DiskDeleted, DiskReady, DiskRefused, EnsureDisk
from roost_common.contracts.host import FencedBy, FenceScope, Health, HostFenced, HostReport
from roost_common.testing.clock import FakeClock
from roost_inventory.advance import advance, tell
from roost_inventory.fence import SKEW, Fence, verdict
from roost_inventory.model import Desktop, Host
from roost_inventory.observations import take_in
from roost_inventory.placement import Candidate, Overcommit, choose_all
from roost_inventory.reports import take_in_absence
from roost_inventory.witness import Witness

NODES = ("n1", "n2")
SLOTS = 2
"""Desktops that fit on one node: all three fit on both."""
DESKTOPS = 3
EXPIRES_S = 40
"""A message is late by less than inventory takes for the proof of absence by reports."""
OVERCOMMIT = Overcommit(memory_reserve_mib=0)


@dataclass
class Letter:
    """A message on its way."""

    message: Message
    node: str | None
    sent_at: datetime


class World:
    """Inventory without database and bus, two nodes, imaging, and the messages between them."""

    def __init__(self, names: tuple[str, ...] = NODES) -> None:
        self.clock = FakeClock()
        self.nodes = nodes(self.clock, names, memory_mib=SLOTS * SMALL.memory_mib)
        self.hosts = {
            name: Host.enrolled(node.report(), Health.UP, self.clock.now())
            for name, node in self.nodes.items()
        }
        self.skew_s = 0.0
        """By how much ha-monitor's clock is ahead."""
        # What began in this moment is, to a fence, as uncertain as the clocks are.
        self.clock.advance(SKEW.total_seconds())
        self.silent: set[str] = set()
        self.cut: set[str] = set()
        """Nodes that neither hear nor are heard."""
        self.imaging = FakeImaging()
        self.post: list[Letter] = []
        self.desktops = [self._new(number) for number in range(DESKTOPS)]
        self.highest: dict[UUID, int] = {}

    def _new(self, number: int) -> Desktop:
        now = self.clock.now()
        return Desktop.create(
            desktop_id=UUID(int=number + 1),
            name=f"d{number}",
            pool_id=None,
            template=TEMPLATE,
            spec=SMALL,
            power=Power.ON,
            ordered_at=now,
            now=now,
            correlation_id="test",
        )

    # --- inventory's edges, without a database ------------------------------------------------

    def say(self, message: Message, node: str | None) -> None:
        self.post.append(Letter(message, node, self.clock.now()))

    def loop(self) -> None:
        now = self.clock.now()
        due = [d for d in self.desktops if d.next_check_at is not None and d.next_check_at <= now]
        for desktop in due:
            desktop.reachable = desktop.host not in self.silent
        homeless = [
            desktop for desktop in due if advance(desktop, self._run(desktop), now, self.say)
        ]
        candidates = [self._candidate(name) for name in self.nodes]
        answers = choose_all(candidates, [one.demand() for one in homeless], overcommit=OVERCOMMIT)
        for desktop, answer in zip(homeless, answers, strict=True):
            if isinstance(answer, Problem):
                desktop.refuse_place(answer, now)
            else:
                desktop.assign(answer, self.hosts[answer].agent_id, now)
                tell(desktop, self.say)
            assert not advance(desktop, self._run(desktop), now, self.say)
        for desktop in due:
            desktop.settle()

    def _run(self, desktop: Desktop) -> UUID | None:
        return None if desktop.host is None else self.hosts[desktop.host].agent_id

    def _candidate(self, name: str) -> Candidate:
        here = [desktop for desktop in self.desktops if desktop.knows(name)]
        return Candidate(
            name=name,
            usable=name not in self.silent and not self.hosts[name].fenced,
            cpus=8,
            memory_mib=self.nodes[name].memory_mib,
            max_vcpus=8,
            used_vcpus=sum(desktop.reserved_vcpus for desktop in here),
            used_memory_mib=sum(desktop.reserved_memory_mib for desktop in here),
        )

    def desktop(self, identity: UUID) -> Desktop:
        return self.desktops[identity.int - 1]

    def receive(self, letter: Letter) -> None:
        now, message = self.clock.now(), letter.message
        match message:
            case EnsureDesktop() if letter.node is not None:
                if letter.node in self.cut:
                    self.post.append(letter)  # it waits in the node's queue
                elif (seen := self.nodes[letter.node].take(message)) is not None:
                    self.say(seen, None)
            case HostFenced():
                self._take_fence(message, now)
            case EnsureDisk():
                answer = self.imaging.take(message)
                if answer is not None:
                    self.say(answer, None)
            case DomainObserved():
                if message.agent_id == self.hosts[message.node].agent_id:
                    desktop = self.desktop(message.domain.desktop_id)
                    by = Witness(message.node, message.agent_id)
                    take_in(desktop, by, message.domain, now, self.say)
            case DiskReady() | DiskRefused() | DiskDeleted():
                self._touch(self.desktop(message.disk_id), now, message)
            case HostReport():
                self._take_report(message, now)
            case _:
                raise AssertionError(f"nobody takes {message}")

    def _touch(
        self, desktop: Desktop, now: datetime, event: DiskReady | DiskRefused | DiskDeleted
    ) -> None:
        match event:
            case DiskReady():
                desktop.note_disk(event.generation, event.path)
            case DiskRefused():
                desktop.note_disk_refused(event.generation, event.problem, now, retryable=True)
            case DiskDeleted():
                desktop.note_disk_gone(event.generation)
        desktop.touch(now)

    def _take_report(self, report: HostReport, now: datetime) -> None:
        host, by = self.hosts[report.node], Witness(report.node, report.agent_id)
        known = host.agent_id
        if not host.hear(report.agent_id, now):
            return
        named = {one.desktop_id: one for one in report.domains}
        if known != host.agent_id:
            for desktop in self.desktops:
                if desktop.host == report.node:
                    desktop.touch(now)
        if report.complete and all(self.desktop(one).knows(report.node) for one in named):
            host.note_clear(report.agent_id)
        for desktop in self.desktops:
            if desktop.id in named:
                take_in(desktop, by, named[desktop.id], now, self.say)
            elif desktop.knows(report.node) and report.complete:
                take_in_absence(desktop, report, host.agent_since, now)

    def _take_fence(self, event: HostFenced, now: datetime) -> None:
        host = self.hosts[event.node]
        host.note_fenced(event.agent_id)
        fence = Fence(
            event.agent_id, event.by, event.scope, event.at, host.agent_id, host.agent_since
        )
        for desktop in self.desktops:
            if desktop.migration is not None:
                if desktop.knows(event.node):
                    desktop.note_fenced(fence, event.node, event.incident_id, now)
            elif desktop.host == event.node:
                what = verdict(fence, desktop.assigned())
                if what.gone:
                    desktop.lose_host(what, now)

    # --- what happens -------------------------------------------------------------------------

    def speak(self, name: str, message: Message) -> None:
        """A node says something, if anybody can hear it."""
        if name not in self.cut:
            self.say(message, None)

    def cut_off(self, name: str) -> None:
        """A node is on its own; ha-monitor notices."""
        self.cut.add(name)
        self.call(name, silent=True)

    def fence(self, name: str, by: FencedBy) -> None:
        """What ran on a node runs no more, and inventory will be told.

        A device ends the machine; its own lease ends those that are restarted, and then the agent
        itself, which comes back as another run before anybody hears of it.
        """
        node = self.nodes[name]
        ended = node.agent_id
        if by is FencedBy.LEASE:
            for identity in list(node.domains):
                spec = self.desktop(identity).told_spec
                if spec is None or spec.ha.restart:
                    node.domains.pop(identity)
            node.restart_agent()
        else:
            node.lose_power()
        self.say(
            HostFenced(
                node=name,
                incident_id=UUID(int=1),
                by=by,
                scope=FenceScope.RESTARTED if by is FencedBy.LEASE else FenceScope.ALL,
                agent_id=ended,
                at=self.clock.now() + timedelta(seconds=self.skew_s),
            ),
            None,
        )

    def heal(self, name: str) -> None:
        """A node is back, with all that waits for it."""
        self.cut.discard(name)
        self.speak(name, self.nodes[name].report())
        self.call(name, silent=False)

    def deliver_all(self) -> None:
        """Everything that is on its way arrives, in order."""
        waiting, self.post = self.post, []
        for letter in waiting:
            self.receive(letter)
        self.loop()

    def pass_time(self, seconds: float) -> None:
        """Time goes on; what is too old never arrives."""
        self.clock.advance(seconds)
        now = self.clock.now()
        self.post = [one for one in self.post if (now - one.sent_at).total_seconds() < EXPIRES_S]

    def finish_shutdowns(self, name: str) -> None:
        """The guests of a node that were asked to shut down do."""
        node = self.nodes[name]
        for desktop in [one for one, domain in node.domains.items() if domain.asked_to_stop]:
            self.speak(name, node.shut_down(desktop))

    def call(self, name: str, *, silent: bool) -> None:
        """ha-monitor calls a host down, or up."""
        (self.silent.add if silent else self.silent.discard)(name)
        for desktop in self.desktops:
            if desktop.knows(name):
                desktop.touch(self.clock.now())

    # --- what must hold -----------------------------------------------------------------------

    def check(self) -> None:
        """What holds at every moment."""
        self.no_desktop_runs_twice()
        self.no_node_is_promised_more_than_it_has()
        self.what_runs_is_where_inventory_has_it()
        self.generations_grow()

    def no_desktop_runs_twice(self) -> None:
        for desktop in self.desktops:
            where = [name for name, node in self.nodes.items() if desktop.id in node.running()]
            assert len(where) <= 1, f"{desktop.name} runs on {where}"

    def no_node_is_promised_more_than_it_has(self) -> None:
        for name in self.nodes:
            assert self._candidate(name).used_memory_mib <= self.nodes[name].memory_mib

    def what_runs_is_where_inventory_has_it(self) -> None:
        for name, node in self.nodes.items():
            for identity in node.running():
                assert self.desktop(identity).knows(name)

    def generations_grow(self) -> None:
        for desktop in self.desktops:
            assert desktop.generation >= self.highest.get(desktop.id, 0)
            assert desktop.told_generation <= desktop.generation
            self.highest[desktop.id] = desktop.generation

    # --- and when it is over ------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """No trouble any more, and ten minutes."""
        self.silent.clear()
        self.cut.clear()
        self.imaging.refuses = None
        for node in self.nodes.values():
            node.refuses = None
        for desktop in self.desktops:
            desktop.touch(self.clock.now())
        for _ in range(60):
            self.clock.advance(10)
            for name, node in self.nodes.items():
                self.finish_shutdowns(name)
                self.say(node.report(), None)
            for _ in range(8):
                self.deliver_all()
                self.check()
        for desktop in self.desktops:
            self._is_as_it_should_be(desktop)

    def _is_as_it_should_be(self, desktop: Desktop) -> None:
        where = [name for name, node in self.nodes.items() if desktop.id in node.domains]
        if desktop.deleting:
            assert (desktop.state, where) == (DesktopState.DELETED, [])
            assert self.imaging.reached[desktop.id][1] is False
            return
        assert desktop.disk_ready == desktop.disk_generation
        assert self.imaging.reached[desktop.id] == (desktop.disk_generation, True)
        assert desktop.problem is None or desktop.failures >= 3
        if desktop.power is Power.OFF:
            assert (desktop.state, desktop.host, where) == (DesktopState.STOPPED, None, [])
        else:
            assert (desktop.state, where) == (DesktopState.RUNNING, [desktop.host])
            assert desktop.boot_id == self.nodes[where[0]].domains[desktop.id].boot_id
