"""The agent's heart on a fake hypervisor: read as histories of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import (
    DomainObservation,
    DomainObserved,
    DomainState,
    EnsureDesktop,
    GuestInfo,
    Power,
    StopMode,
    StopReason,
)
from roost_common.errors import Conflict, Outage, Unavailable
from roost_common.testing.bus import FakeBus, twice_and_out_of_order
from roost_common.testing.clock import FakeClock
from roost_host_agent.handlers import Handlers, Trust
from roost_host_agent.hypervisor.fake import FakeHypervisor, Personality
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.reconciler import Reconciler


class Site:
    """An agent's parts, driven by hand; ``restart`` is a new agent on the same node."""

    def __init__(self, personality: Personality = Personality.NORMAL) -> None:
        self.bus = FakeBus()
        self.clock = FakeClock()
        self.driver = FakeHypervisor(personality=personality, slow_s=0.01)
        self.restart()

    def restart(self) -> None:
        self.node = Node("node-a", "192.0.2.10", uuid4())
        self.observer = Observer(self.node, self.bus, self.clock)
        self.reconciler = Reconciler(self.driver, self.observer, self.clock)

    @property
    def said(self) -> list[DomainObservation]:
        return [message.domain for message in self.bus.of(DomainObserved)]

    @property
    def last(self) -> DomainObservation:
        return self.said[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reconciler.run())
        await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, state: DomainState, **fields: object) -> None:
        def reached() -> bool:
            return (
                bool(self.said)
                and self.last.state is state
                and all(getattr(self.last, name) == value for name, value in fields.items())
            )

        await eventually(reached, f"{state} with {fields} is said")


def off(command: EnsureDesktop, generation: int, **fields: object) -> EnsureDesktop:
    return command.model_copy(
        update={"generation": generation, "power": Power.OFF, "disk": None, **fields}
    )


async def test_on_and_off() -> None:
    site, command = Site(), wanted(generation=3)
    await site.reconciler.ensure(command)
    assert (site.last.state, site.last.generation) == (DomainState.RUNNING, 3)
    assert site.last.boot_id is not None
    assert site.last.spice is not None
    await site.reconciler.ensure(off(command, 4))
    assert (site.last.state, site.last.generation) == (DomainState.ABSENT, 4)
    assert site.last.stop_reason is StopReason.REQUESTED


async def test_the_same_command_again_is_answered_again() -> None:
    site, command = Site(), wanted()
    await site.reconciler.ensure(command)
    boot_id = site.last.boot_id
    await site.reconciler.ensure(command)
    assert len(site.said) == 2
    assert site.last.boot_id == boot_id
    assert site.said[0].observed_at < site.said[1].observed_at


@pytest.mark.parametrize("seed", range(30))
async def test_commands_twice_and_in_any_order(seed: int) -> None:
    site, first = Site(), wanted(generation=1)
    history = [
        first,
        off(first, 2),
        first.model_copy(update={"generation": 3}),
        first.model_copy(update={"generation": 4}),
    ]
    handlers = Handlers(site.driver, site.reconciler, Trust())
    await twice_and_out_of_order(handlers.command, history, seed)
    (view,) = await site.driver.domains()
    assert (view.state, view.mark.generation) == (DomainState.RUNNING, 4)
    assert (site.last.state, site.last.generation) == (DomainState.RUNNING, 4)


@pytest.mark.parametrize("seed", range(30))
async def test_off_wins_when_it_is_the_newest(seed: int) -> None:
    site, first = Site(), wanted(generation=1)
    history = [first, first.model_copy(update={"generation": 2}), off(first, 3)]
    handlers = Handlers(site.driver, site.reconciler, Trust())
    await twice_and_out_of_order(handlers.command, history, seed)
    assert await site.driver.domains() == ()
    assert (site.last.state, site.last.generation) == (DomainState.ABSENT, 3)


async def test_many_commands_at_once_are_applied_one_by_one() -> None:
    site, command = Site(Personality.SLOW), wanted(generation=1)
    await asyncio.gather(
        *(
            site.reconciler.ensure(command.model_copy(update={"generation": generation}))
            for generation in (2, 5, 3, 5, 1)
        )
    )
    (view,) = await site.driver.domains()
    assert view.mark.generation == 5
    assert len({observation.boot_id for observation in site.said}) == 1


async def test_a_refusal_is_an_observation_and_not_an_error() -> None:
    site, command = Site(Personality.REFUSES), wanted(generation=6)
    await site.reconciler.ensure(command)
    assert (site.last.state, site.last.generation) == (DomainState.ABSENT, 6)
    assert site.last.problem is not None
    assert site.last.problem.code == "desktop.start-failed"
    at = site.observer.stamp()
    (reported,) = site.observer.report(await site.driver.domains(), at, guests=True)
    assert reported.problem == site.last.problem


async def test_a_refusal_is_over_when_it_works_or_is_not_wanted_any_more() -> None:
    site, command = Site(Personality.REFUSES), wanted(generation=6)
    await site.reconciler.ensure(command)
    site.driver.personality = Personality.NORMAL
    await site.reconciler.ensure(command.model_copy(update={"generation": 7}))
    assert site.last.problem is None
    site.driver.personality = Personality.REFUSES
    other = wanted(generation=1)
    await site.reconciler.ensure(other)
    await site.reconciler.ensure(off(other, 2))
    assert (site.last.state, site.last.generation, site.last.problem) == (
        DomainState.ABSENT,
        2,
        None,
    )


class Locked(FakeHypervisor):
    """Another copy has the disk."""

    starts = 0

    async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
        self.starts += 1
        raise Conflict("desktop.disk-locked", "The desktop's disk is in use elsewhere.")


async def test_a_locked_disk_is_said_and_left_to_whoever_asked() -> None:
    site, driver = Site(), Locked()
    site.driver = driver
    site.restart()
    async with site.running():
        await site.reconciler.ensure(wanted())
    assert driver.starts == 1
    assert site.last.problem is not None
    assert site.last.problem.code == "desktop.disk-locked"


async def test_starts_wait_for_a_place_in_the_order_of_their_commands() -> None:
    began: list[UUID] = []
    go_on = asyncio.Event()

    class Slow(FakeHypervisor):
        async def start(self, wanted: EnsureDesktop, boot_id: UUID) -> None:
            began.append(wanted.desktop_id)
            await go_on.wait()
            await super().start(wanted, boot_id)

    site = Site()
    site.driver = Slow()
    site.restart()
    commands = [wanted() for _ in range(8)]
    tasks = [asyncio.create_task(site.reconciler.ensure(command)) for command in commands]
    await eventually(lambda: len(began) == 2, "two start")
    # Turning a desktop off waits for nobody's start.
    await site.reconciler.ensure(off(wanted(), 2))
    assert len(began) == 2
    go_on.set()
    await asyncio.gather(*tasks)
    assert began == [command.desktop_id for command in commands]


async def test_a_missing_disk_is_a_refusal() -> None:
    site = Site()
    await site.reconciler.ensure(wanted(disk=None))
    assert site.last.problem is not None
    assert site.last.problem.code == "desktop.disk-missing"


async def test_an_outage_is_waited_out_and_says_nothing() -> None:
    site = Site()
    site.driver.away = True
    with pytest.raises(Outage):
        await site.reconciler.ensure(wanted())
    assert site.said == []


async def test_a_bus_that_does_not_take_the_answer_makes_the_command_come_again() -> None:
    site, command = Site(), wanted()
    site.bus.connected = False
    with pytest.raises(Unavailable):
        await site.reconciler.ensure(command)
    site.bus.connected = True
    await site.reconciler.ensure(command)
    assert site.last.state is DomainState.RUNNING


async def test_a_guest_that_follows_is_undefined_at_once() -> None:
    site, command = Site(), wanted(generation=1)
    async with site.running():
        await site.reconciler.ensure(command)
        await site.reconciler.ensure(off(command, 2, stop=StopMode.SHUTDOWN, grace_s=60))
        assert (site.last.state, site.last.generation) == (DomainState.RUNNING, 2)
        site.driver.shut_down(command.desktop_id)
        await site.until(DomainState.ABSENT, generation=2, stop_reason=StopReason.REQUESTED)
    assert await site.driver.domains() == ()


async def test_a_guest_that_does_not_follow_loses_its_power_even_under_a_new_agent() -> None:
    site, command = Site(), wanted(generation=1)
    await site.reconciler.ensure(command)
    await site.reconciler.ensure(off(command, 2, stop=StopMode.SHUTDOWN, grace_s=60))
    site.restart()
    async with site.running():
        site.reconciler.sweep(await site.driver.domains())
        site.clock.advance(61)
        site.reconciler.sweep(await site.driver.domains())
        await site.until(DomainState.ABSENT, generation=2)
    assert await site.driver.domains() == ()


async def test_a_user_who_shuts_down_leaves_a_defined_desktop() -> None:
    site, command = Site(), wanted(generation=1)
    async with site.running():
        await site.reconciler.ensure(command)
        boot_id = site.last.boot_id
        site.driver.shut_down(command.desktop_id)
        await site.until(
            DomainState.SHUTOFF, stop_reason=StopReason.GUEST_SHUTDOWN, boot_id=boot_id
        )
    assert len(await site.driver.domains()) == 1


async def test_a_crash_and_a_new_start_are_two_runs() -> None:
    site, command = Site(), wanted(generation=1)
    async with site.running():
        await site.reconciler.ensure(command)
        first = site.last.boot_id
        site.driver.crash(command.desktop_id)
        await site.until(DomainState.SHUTOFF, stop_reason=StopReason.CRASHED)
        await site.reconciler.ensure(command)
    assert site.last.state is DomainState.RUNNING
    assert site.last.boot_id != first


async def test_clients_and_guests_are_said_when_they_change() -> None:
    site, command = Site(), wanted()
    async with site.running():
        await site.reconciler.ensure(command)
        site.driver.connect_client(command.desktop_id)
        await site.until(DomainState.RUNNING, guest=None)
        site.driver.guest_tells(command.desktop_id, GuestInfo(os="Debian", users=("ann",)))
        await site.until(DomainState.RUNNING, guest=GuestInfo(os="Debian", users=("ann",)))
        assert len(site.last.clients) == 1
        count = len(site.said)
        site.reconciler.changed(command.desktop_id)
        site.driver.disconnect_clients(command.desktop_id)
        await site.until(DomainState.RUNNING, clients=())
        assert len(site.said) == count + 1


async def test_a_desktop_that_vanishes_is_lost() -> None:
    site, command = Site(), wanted(generation=4)
    async with site.running():
        await site.reconciler.ensure(command)
        # Somebody with a shell on the node undefines it.
        await site.driver.remove(command.desktop_id, 0, None)
        await site.until(DomainState.ABSENT, stop_reason=StopReason.LOST, generation=4)


async def test_one_stuck_start_holds_up_nobody_else() -> None:
    site = Site(Personality.NEVER)
    stuck = asyncio.create_task(site.reconciler.ensure(wanted()))
    await asyncio.sleep(0)
    site.driver.personality = Personality.NORMAL
    other = wanted()
    async with asyncio.timeout(2):
        await site.reconciler.ensure(other)
    assert site.last.desktop_id == other.desktop_id
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_a_new_agent_leaves_running_desktops_alone() -> None:
    site, command = Site(), wanted(generation=2)
    await site.reconciler.ensure(command)
    boot_id = site.last.boot_id
    site.restart()
    await site.reconciler.ensure(command)
    assert site.last.boot_id == boot_id
    # And an older command stays outdated: the mark remembers.
    await site.reconciler.ensure(off(command, 1))
    assert site.last.state is DomainState.RUNNING


class SetBack(FakeClock):
    """A wall clock that can be set; the monotonic side knows nothing of it."""

    by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_wall_clock_that_is_set_neither_turns_nor_stretches_time(by: timedelta) -> None:
    clock = SetBack()
    observer = Observer(Node("node-a", "192.0.2.10", uuid4()), FakeBus(), clock)
    stamps = [observer.stamp() for _ in range(3)]
    assert stamps == sorted(set(stamps))
    clock.by = by
    clock.advance(20)
    after = observer.stamp() - stamps[-1]
    assert timedelta(seconds=19) < after < timedelta(seconds=21)


async def test_what_is_said_names_the_run_of_the_agent() -> None:
    site, command = Site(), wanted()
    await site.reconciler.ensure(command)
    first = site.node.agent_id
    site.restart()
    await site.reconciler.ensure(command)
    assert [one.agent_id for one in site.bus.of(DomainObserved)] == [first, site.node.agent_id]


def test_removals_are_remembered_within_bounds() -> None:
    site = Site()
    first = uuid4()
    site.observer.note_removed(first, 3)
    for _ in range(10_000):
        site.observer.note_removed(UUID(int=uuid4().int), 1)
    assert site.observer.removed(first) == 0
