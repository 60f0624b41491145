"""The lease with all that hangs on it, on a fake hypervisor: read as histories."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import DomainObserved, DomainState, EnsureDesktop
from roost_common.contracts.host import LeaseGranted
from roost_common.contracts.spec import DesktopSpec, HaPolicy
from roost_common.errors import Unavailable
from roost_common.testing.bus import FakeBus, delivery
from roost_common.testing.clock import FakeClock
from roost_host_agent import lease_file
from roost_host_agent.beat_file import BeatDirectory, BeatFile
from roost_host_agent.hypervisor.fake import FakeHypervisor
from roost_host_agent.keeper import Keeper, LeaseEnded
from roost_host_agent.lease import HOLD_S, Lease
from roost_host_agent.lease_file import GUARD_LIVES_S, LeaseFile
from roost_host_agent.leasehold import Leasehold, inherited
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.peer_watch import PeerWatch
from roost_host_agent.reconciler import Reconciler
from roost_host_agent.restarted import REMEMBERED_S, RestartedDesktops
from roost_host_agent.stopping import Stopping

LEASE_S = 45.0


class Site:
    """A node; ``restart`` is a new run of its agent, on the same hypervisor and lease file."""

    def __init__(self, path: Path, directory: BeatDirectory | None = None) -> None:
        self.path = path
        self.directory = directory
        self.clock = FakeClock()
        self.driver = FakeHypervisor()
        self.bus = FakeBus()
        self.restart()

    def restart(self) -> None:
        self.node = Node("node-a", "192.0.2.10", uuid4())
        now = self.clock.monotonic
        left = inherited(self.path)
        self.lease = Lease(
            self.node.agent_id, LEASE_S, inherited=None if left is None else left.deadline
        )
        peers = PeerWatch(self.node, self.lease, self.directory, self.clock, boot_time=now)
        self.peers = peers
        self.leasehold = Leasehold(
            self.node.agent_id,
            self.lease,
            lease_s=LEASE_S,
            path=self.path,
            peers=peers,
            desktops=RestartedDesktops(now, () if left is None else left.domains),
            boot_time=now,
        )
        self.reconciler = Reconciler(
            self.driver,
            Observer(self.node, self.bus, self.clock),
            self.clock,
            admit=self.leasehold.admit,
            seen=self.leasehold.seen,
        )
        stopping = Stopping(self.driver, self.reconciler, deadline_s=0.2)
        self.keeper = Keeper(self.leasehold, stopping, inherited=left, boot_time=now)
        self.sequence = 0

    async def beat(self, *, armed: bool = True) -> None:
        """A beat that is heard and granted."""
        self.sequence += 1
        self.leasehold.beat(self.sequence)
        grant = LeaseGranted(
            node="node-a", agent_id=self.node.agent_id, sequence=self.sequence, armed=armed
        )
        await self.leasehold.grant(delivery(grant))

    def guard(self) -> None:
        lease_file.leave_sign(self.path, self.clock.monotonic())

    @property
    def file(self) -> LeaseFile | None:
        return lease_file.read(self.path)

    @property
    def listed(self) -> set[str]:
        """The guard's list."""
        return set() if self.file is None else {one.uuid for one in self.file.domains}

    def full(self, *, full: bool) -> None:
        """Where the lease file is, nothing can be written any more, or again."""
        place = self.path.parent
        if full:
            place.rename(place.with_suffix(".kept"))
            place.write_text("a file where a directory should be")
        else:
            place.unlink()
            place.with_suffix(".kept").rename(place)

    async def arrives(self) -> EnsureDesktop:
        """A desktop comes by a migration, with the command that is told again then."""
        command = wanted()
        await self.driver.start(command, uuid4())
        return command

    async def runs(self) -> set[UUID]:
        return {
            view.mark.desktop_id
            for view in await self.driver.domains()
            if view.state is DomainState.RUNNING
        }


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "run" / "lease.json")


def kept() -> EnsureDesktop:
    """A desktop that is not restarted elsewhere."""
    return wanted(spec=DesktopSpec(ha=HaPolicy(restart=False)))


async def test_the_file_says_until_when_and_for_whom(site: Site) -> None:
    await site.keeper.step()
    assert site.file == LeaseFile(str(site.node.agent_id), None, ())
    command = wanted()
    await site.reconciler.ensure(command)
    await site.reconciler.ensure(kept())
    await site.beat()
    assert site.file is not None
    assert site.file.deadline == LEASE_S
    assert [(one.uuid, one.name) for one in site.file.domains] == [
        (str(command.desktop_id), command.desktop_name)
    ]
    site.clock.advance(1)
    await site.beat()
    assert site.file.deadline == LEASE_S + 1


async def test_a_desktop_is_on_the_list_before_it_starts(site: Site) -> None:
    command = wanted()
    await site.beat()
    seen: list[LeaseFile | None] = []

    class Watched(FakeHypervisor):
        async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
            seen.append(site.file)
            await super().start(wanted, boot_id)

    site.driver = Watched()
    site.restart()
    await site.beat()
    await site.reconciler.ensure(command)
    assert seen[0] is not None
    assert [one.uuid for one in seen[0].domains] == [str(command.desktop_id)]


async def test_what_came_by_itself_is_on_the_list_before_anybody_is_told(site: Site) -> None:
    listed: list[set[str]] = []

    class Noting(FakeBus):
        async def publish(self, message: Message, *args: Any, **kwargs: Any) -> None:
            listed.append(site.listed)
            await super().publish(message, *args, **kwargs)

    site.bus = Noting()
    site.restart()
    await site.beat()
    task = asyncio.create_task(site.reconciler.run())
    await asyncio.sleep(0)
    command = await site.arrives()
    site.reconciler.changed(command.desktop_id)
    await eventually(lambda: site.bus.of(DomainObserved), "it is told of")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert listed == [{str(command.desktop_id)}]


async def test_what_the_guard_cannot_be_told_of_is_told_to_nobody(site: Site) -> None:
    known = await site.arrives()
    await site.beat()
    assert site.leasehold.swept(await site.driver.domains())
    command = await site.arrives()
    site.full(full=True)
    with pytest.raises(Unavailable) as refused:
        await site.reconciler.ensure(command)
    assert refused.value.code == "host.no-lease-file"
    assert not site.leasehold.swept(await site.driver.domains())
    assert site.bus.of(DomainObserved) == []
    # Of what it knows everything may be said.
    await site.reconciler.ensure(known)
    assert [one.domain.desktop_id for one in site.bus.of(DomainObserved)] == [known.desktop_id]
    site.full(full=False)
    await site.reconciler.ensure(command)
    assert site.bus.of(DomainObserved)[-1].domain.desktop_id == command.desktop_id
    assert site.listed == {str(known.desktop_id), str(command.desktop_id)}
    assert site.leasehold.swept(await site.driver.domains())


async def test_what_the_guard_was_not_told_of_ends_with_the_lease(site: Site) -> None:
    await site.beat()
    site.full(full=True)
    await site.arrives()
    site.clock.advance(LEASE_S)
    with pytest.raises(LeaseEnded):
        await site.keeper.step()
    assert await site.runs() == set()


async def test_without_an_armed_lease_nobody_waits_for_the_list(site: Site) -> None:
    await site.beat(armed=False)
    command = await site.arrives()
    site.full(full=True)
    await site.reconciler.ensure(command)
    assert site.leasehold.swept(await site.driver.domains())
    assert len(site.bus.of(DomainObserved)) == 1


async def test_the_list_is_written_when_it_changes_and_not_with_every_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.beat()
    written: list[LeaseFile] = []
    write = lease_file.write

    def noting(path: Path, lease: LeaseFile) -> None:
        written.append(lease)
        write(path, lease)

    monkeypatch.setattr(lease_file, "write", noting)
    commands = [await site.arrives() for _ in range(3)]
    for _ in range(3):
        for command in commands:
            await site.reconciler.ensure(command)
        assert site.leasehold.swept(await site.driver.domains())
    assert [len(one.domains) for one in written] == [1, 2, 3]
    await site.driver.start(other := kept(), uuid4())
    await site.reconciler.ensure(other)
    assert len(written) == 3


async def test_a_beat_says_armed_only_while_the_guard_is_there(site: Site) -> None:
    await site.beat()
    assert not site.leasehold.beat(10).armed
    site.guard()
    await site.keeper.step()
    assert not site.leasehold.beat(11).armed, "nobody has looked what runs here"
    assert site.leasehold.swept(await site.driver.domains())
    assert site.leasehold.beat(11).armed
    site.clock.advance(GUARD_LIVES_S)
    await site.keeper.step()
    assert not site.leasehold.beat(12).armed


async def test_at_the_end_what_is_restarted_stops_and_the_rest_runs_on(site: Site) -> None:
    command, other = wanted(), kept()
    await site.reconciler.ensure(command)
    await site.reconciler.ensure(other)
    await site.beat()
    site.clock.advance(LEASE_S - 1)
    await site.keeper.step()
    assert await site.runs() == {command.desktop_id, other.desktop_id}
    site.clock.advance(1)
    with pytest.raises(LeaseEnded):
        await site.keeper.step()
    assert await site.runs() == {other.desktop_id}
    assert site.file is not None
    assert site.file.deadline == site.clock.monotonic()


async def test_a_lease_that_was_held_for_the_peers_sake_ends_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path / "run" / "lease.json", BeatDirectory(tmp_path, "node-a"))
    peer, other = BeatDirectory(tmp_path, "node-b"), str(uuid4())

    async def second(number: int, *, granted: bool) -> None:
        site.clock.advance(1)
        await peer.exchange(BeatFile(other, number, 1, granted=granted, written_at=""))
        await site.peers.step()
        await site.keeper.step()

    await site.peers.step()
    await site.beat()
    for number in range(1, int(LEASE_S) + 3):
        # The peer's grants are late for a moment, just when this node's lease ends.
        await second(number, granted=number < LEASE_S - 2)
    assert site.file is not None
    assert site.file.deadline == LEASE_S + 2 + HOLD_S
    with pytest.raises(LeaseEnded):
        await second(int(LEASE_S) + 3, granted=True)
    assert site.file.deadline == site.clock.monotonic()
    # What comes now ends at once, too.
    command = await site.arrives()
    assert site.leasehold.swept(await site.driver.domains())
    assert site.listed == {str(command.desktop_id)}
    assert site.file.deadline == site.clock.monotonic()


async def test_only_what_is_restarted_elsewhere_loses_its_power(site: Site) -> None:
    command, other = wanted(), kept()
    await site.reconciler.ensure(command)
    await site.reconciler.ensure(other)
    for desktop_id in (command.desktop_id, other.desktop_id, uuid4()):
        await site.reconciler.cut_power(desktop_id)
    assert await site.runs() == {other.desktop_id}


async def test_nothing_starts_after_the_end(site: Site) -> None:
    await site.beat()
    site.clock.advance(LEASE_S)
    with pytest.raises(Unavailable) as refused:
        await site.reconciler.ensure(wanted())
    assert refused.value.code == "host.lease-ended"
    assert await site.runs() == set()


@pytest.mark.long
async def test_without_libvirt_the_end_comes_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost_host_agent.keeper.STOP_DEADLINE_S", 0.5)
    command = wanted()
    await site.reconciler.ensure(command)
    await site.beat()
    site.driver.away = True
    site.clock.advance(LEASE_S)
    with pytest.raises(LeaseEnded):
        await site.keeper.step()
    assert site.file is not None
    # The guard needs no libvirt.
    assert [one.uuid for one in site.file.domains] == [str(command.desktop_id)]


async def test_the_next_run_finishes_what_the_one_before_left(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost_host_agent.keeper.STOP_DEADLINE_S", 0.3)
    command = wanted()
    await site.reconciler.ensure(command)
    await site.beat()
    site.driver.away = True
    site.clock.advance(LEASE_S)
    with pytest.raises(LeaseEnded):
        await site.keeper.step()
    site.restart()
    await site.keeper.step()
    await site.beat()
    assert not site.lease.armed, "no grant counts before"
    site.driver.away = False
    await site.keeper.step()
    assert await site.runs() == set()
    await site.keeper.step()
    assert site.file is not None
    assert (site.file.agent_id, site.file.deadline) == (str(site.node.agent_id), None)
    # And now it is an ordinary run.
    await site.reconciler.ensure(command.model_copy(update={"generation": 2}))
    await site.beat()
    assert await site.runs() == {command.desktop_id}
    assert site.file.deadline == site.clock.monotonic() + LEASE_S


async def test_an_earlier_runs_file_is_left_alone_until_the_first_grant(site: Site) -> None:
    command = wanted()
    await site.reconciler.ensure(command)
    await site.beat()
    before = site.file
    site.clock.advance(10)
    site.restart()
    site.guard()
    other = wanted()
    await site.keeper.step()
    await site.reconciler.ensure(other)
    assert site.file == before
    assert not site.leasehold.beat(1).armed
    # libvirt does not answer yet: what ran before stays on the list, and nobody counts on it.
    await site.beat()
    await site.keeper.step()
    assert not site.leasehold.beat(2).armed
    assert site.listed == {str(command.desktop_id), str(other.desktop_id)}
    assert site.leasehold.swept(await site.driver.domains())
    assert site.leasehold.beat(2).armed
    await site.beat()
    assert site.file is not None
    assert site.file.deadline == 10 + LEASE_S
    assert {one.uuid for one in site.file.domains} == {
        str(command.desktop_id),
        str(other.desktop_id),
    }


async def test_an_earlier_runs_lease_ends_its_desktops_and_no_others(site: Site) -> None:
    command, other = wanted(), wanted()
    await site.reconciler.ensure(command)
    await site.beat()
    site.restart()
    await site.reconciler.ensure(other)
    site.clock.advance(LEASE_S)
    await site.keeper.step()
    await site.keeper.step()
    assert await site.runs() == {other.desktop_id}


async def test_a_file_that_cannot_be_written_arms_nobody(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    site = Site(tmp_path / "run" / "lease.json")
    await site.beat()
    assert site.lease.armed
    assert not site.leasehold.beat(2).armed
    with pytest.raises(Unavailable) as refused:
        await site.reconciler.ensure(wanted())
    assert refused.value.code == "host.no-lease-file"
    # One that is not restarted elsewhere needs no guard.
    await site.reconciler.ensure(kept())


async def test_grants_again_and_out_of_order(site: Site) -> None:
    for sequence in (1, 2, 3):
        site.leasehold.beat(sequence)
        site.clock.advance(1)
    agent_id = site.node.agent_id
    for sequence in (2, 3, 1, 3, 2):
        await site.leasehold.grant(
            delivery(LeaseGranted(node="node-a", agent_id=agent_id, sequence=sequence, armed=True))
        )
    assert site.lease.until == 2 + LEASE_S


# --- the list -------------------------------------------------------------------------------------


async def test_the_list_follows_what_is_seen() -> None:
    clock, driver = FakeClock(), FakeHypervisor()
    desktops = RestartedDesktops(clock.monotonic)
    command = wanted()

    def listed() -> list[str]:
        return [one.uuid for one in desktops.domains()]

    desktops.starting(command.desktop_id, "d", restart=True)
    # A look that began before it ran.
    desktops.sweep(())
    assert listed() == [str(command.desktop_id)]
    clock.advance(REMEMBERED_S)
    desktops.sweep(())
    assert listed() == []
    # It came by a migration.
    await driver.start(command, uuid4())
    (view,) = await driver.domains()
    desktops.seen(view)
    assert listed() == [str(command.desktop_id)]
    # Its policy is another one now.
    desktops.starting(command.desktop_id, "d", restart=False)
    assert listed() == []
    desktops.sweep(await driver.domains())
    assert listed() == [str(command.desktop_id)], (
        "the domain's own mark is what it was started with"
    )
    # It was away and is back, and the look began in between.
    desktops.seen(view)
    desktops.sweep(())
    assert listed() == [str(command.desktop_id)]
    clock.advance(REMEMBERED_S)
    driver.shut_down(command.desktop_id)
    desktops.sweep(await driver.domains())
    assert listed() == []
