"""Migrations between two agents on fake hypervisors, read as histories of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import DomainObserved, DomainState, EnsureDesktop, StopReason
from roost_common.contracts.migration import (
    CancelMigration,
    MigrateDesktop,
    MigrationEnded,
    MigrationProgress,
)
from roost_common.errors import Outage
from roost_common.testing.bus import FakeBus, twice_and_out_of_order
from roost_common.testing.clock import FakeClock
from roost_host_agent.handlers import Handlers, Trust
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.hypervisor.fake import FakeHypervisor, Personality
from roost_host_agent.migrating import Migrating
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.reconciler import Reconciler


class Host:
    """A node with its agent; ``restart`` is a new run of it, the hypervisor goes on."""

    def __init__(self, name: str, address: str) -> None:
        self.bus, self.clock = FakeBus(), FakeClock()
        self.name, self.address = name, address
        self.driver = FakeHypervisor(name=name, address=address, slow_s=0.01)
        self.restart()

    def restart(self) -> None:
        self.node = Node(self.name, self.address, uuid4())
        self.observer = Observer(self.node, self.bus, self.clock)
        self.reconciler = Reconciler(self.driver, self.observer, self.clock)
        self.migrating = Migrating(
            self.node,
            self.driver,
            self.reconciler,
            self.observer,
            publisher=self.bus,
            clock=self.clock,
            tick_s=0.005,
        )

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self.reconciler.run()),
            asyncio.create_task(self.migrating.run()),
        ]
        await eventually(lambda: self.migrating.ready, "the agent has looked")
        yield
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result

    async def view(self, desktop_id: UUID) -> DomainView | None:
        views = await self.driver.domains(desktop_id)
        return views[0] if views else None

    async def end(self, migration_id: UUID) -> str | None:
        """The code of the problem with which it ended; None: it was moved."""

        def told() -> list[MigrationEnded]:
            return [o for o in self.bus.of(MigrationEnded) if o.migration_id == migration_id]

        found = await eventually(told, "the migration's end is told")
        problem = found[-1].problem
        return None if problem is None else problem.code

    def last(self, desktop_id: UUID) -> DomainObserved:
        return [o for o in self.bus.of(DomainObserved) if o.domain.desktop_id == desktop_id][-1]


class Pair:
    """A desktop on ``source``, and where it may go."""

    def __init__(self) -> None:
        self.source = Host("node-a", "192.0.2.1")
        self.target = Host("node-b", "192.0.2.2")
        self.command: EnsureDesktop = wanted(generation=3)
        self.boot_id = uuid4()

    @property
    def desktop_id(self) -> UUID:
        return self.command.desktop_id

    def move(self, **more: object) -> MigrateDesktop:
        return MigrateDesktop.model_validate(
            {
                "migration_id": uuid4(),
                "desktop_id": self.desktop_id,
                "boot_id": self.boot_id,
                "generation": 4,
                "agent_id": self.source.node.agent_id,
                "target_node": "node-b",
                "target_address": "192.0.2.2",
                **more,
            }
        )

    async def under_way(self) -> None:
        async def sent() -> bool:
            return (await self.source.driver.migration_percent(self.desktop_id) or 0) > 0

        await eventually(sent, "some of the guest is sent")


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.source.driver.start(pair.command, pair.boot_id)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(pair.source.agent())
        await stack.enter_async_context(pair.target.agent())
        yield pair


async def test_a_desktop_moves_with_its_run_and_its_clients(pair: Pair) -> None:
    pair.source.driver.connect_client(pair.desktop_id)
    command = pair.move()
    await pair.source.migrating.migrate(command)
    assert await pair.source.end(command.migration_id) is None
    assert await pair.source.view(pair.desktop_id) is None
    here = await pair.target.view(pair.desktop_id)
    assert here is not None
    assert (here.mark.generation, here.mark.boot_id) == (4, pair.boot_id)
    assert (here.state, here.migrating) == (DomainState.RUNNING, False)
    assert here.spice is not None
    assert here.spice.host == "192.0.2.2"
    assert len(here.clients) == 1
    await eventually(lambda: pair.target.bus.of(DomainObserved), "the target says it")
    said = pair.target.last(pair.desktop_id).domain
    assert (said.state, said.generation) == (DomainState.RUNNING, 4)


async def test_what_left_was_wanted_to_leave(pair: Pair) -> None:
    await pair.source.reconciler.ensure(pair.command)
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.source.end(command.migration_id)
    await eventually(
        lambda: pair.source.last(pair.desktop_id).domain.state is DomainState.ABSENT,
        "the source says that it is gone",
    )
    reasons = {
        said.domain.stop_reason
        for said in pair.source.bus.of(DomainObserved)
        if said.domain.state is DomainState.ABSENT
    }
    assert reasons == {StopReason.REQUESTED}


async def test_a_late_order_to_run_it_here_is_outdated(pair: Pair) -> None:
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.source.end(command.migration_id)
    await pair.source.reconciler.ensure(pair.command)
    assert await pair.source.view(pair.desktop_id) is None


async def test_progress_is_told_and_never_falls(pair: Pair) -> None:
    pair.source.driver.personality = Personality.SLOW
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.source.end(command.migration_id)
    told = [one.percent for one in pair.source.bus.of(MigrationProgress)]
    assert len(told) > 1
    assert told == sorted(told)


async def test_under_way_the_source_runs_it_and_the_target_has_nothing(pair: Pair) -> None:
    pair.source.driver.personality = Personality.NEVER
    await pair.source.migrating.migrate(pair.move())

    async def leaving() -> bool:
        here = await pair.source.view(pair.desktop_id)
        return here is not None and here.migrating

    await eventually(leaving, "it is leaving")
    assert await pair.target.driver.domains() == ()
    await eventually(
        lambda: pair.source.last(pair.desktop_id).domain.migrating, "the source says so"
    )
    assert pair.source.last(pair.desktop_id).domain.state is DomainState.RUNNING


async def test_what_arrives_is_not_started_there_and_not_refused(pair: Pair) -> None:
    pair.source.driver.personality = Personality.NEVER
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await eventually(lambda: pair.target.driver.is_arriving(pair.desktop_id), "it arrives")
    wanted_there = pair.command.model_copy(update={"generation": 4})
    await pair.target.reconciler.ensure(wanted_there)
    assert await pair.target.driver.domains() == ()
    assert pair.target.last(pair.desktop_id).domain.problem is None
    await pair.source.migrating.cancel(
        CancelMigration(migration_id=command.migration_id, desktop_id=pair.desktop_id)
    )
    await pair.source.end(command.migration_id)
    # Now it may.
    await pair.target.reconciler.ensure(wanted_there)
    assert await pair.target.view(pair.desktop_id) is not None


async def test_the_same_command_twice_moves_once_and_is_told_again(pair: Pair) -> None:
    pair.source.driver.personality = Personality.SLOW
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.source.migrating.migrate(command)
    assert await pair.source.end(command.migration_id) is None
    assert len(pair.source.bus.of(MigrationEnded)) == 1
    await pair.source.migrating.migrate(command)
    assert [one.problem for one in pair.source.bus.of(MigrationEnded)] == [None, None]


async def test_a_cancelled_one_stays(pair: Pair) -> None:
    pair.source.driver.personality = Personality.NEVER
    command = pair.move()
    await pair.source.migrating.migrate(command)
    cancel = CancelMigration(migration_id=command.migration_id, desktop_id=pair.desktop_id)
    await pair.source.migrating.cancel(cancel)
    await pair.source.migrating.cancel(cancel)
    assert await pair.source.end(command.migration_id) == "desktop.migration-cancelled"
    here = await pair.source.view(pair.desktop_id)
    assert here is not None
    assert (here.state, here.migrating) == (DomainState.RUNNING, False)
    assert not pair.target.driver.is_arriving(pair.desktop_id)


async def test_a_cancel_that_overtakes_its_command(pair: Pair) -> None:
    command = pair.move()
    await pair.source.migrating.cancel(
        CancelMigration(migration_id=command.migration_id, desktop_id=pair.desktop_id)
    )
    await pair.source.migrating.migrate(command)
    assert await pair.source.end(command.migration_id) == "desktop.migration-cancelled"
    assert await pair.source.view(pair.desktop_id) is not None


async def test_its_time_is_over(pair: Pair) -> None:
    pair.source.driver.personality = Personality.NEVER
    command = pair.move(deadline_s=60)
    await pair.source.migrating.migrate(command)
    await eventually(lambda: pair.target.driver.is_arriving(pair.desktop_id), "it arrives")
    assert pair.source.bus.of(MigrationEnded) == []
    pair.source.clock.advance(61)
    assert await pair.source.end(command.migration_id) == "desktop.migration-deadline"
    assert await pair.source.view(pair.desktop_id) is not None


async def test_one_that_breaks_midway(pair: Pair) -> None:
    pair.source.driver.personality = Personality.FAILS_MIDWAY
    command = pair.move()
    await pair.source.migrating.migrate(command)
    assert await pair.source.end(command.migration_id) == "desktop.migration-failed"
    here = await pair.source.view(pair.desktop_id)
    assert here is not None
    assert not here.migrating
    assert await pair.target.driver.domains() == ()


async def test_a_target_that_dies_midway(pair: Pair) -> None:
    pair.source.driver.personality = Personality.SLOW
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.under_way()
    pair.target.driver.lose_power()
    assert await pair.source.end(command.migration_id) == "host.unreachable"
    assert await pair.source.view(pair.desktop_id) is not None


async def test_a_source_that_dies_midway_leaves_nothing_at_the_target(pair: Pair) -> None:
    pair.source.driver.personality = Personality.SLOW
    await pair.source.migrating.migrate(pair.move())
    await pair.under_way()
    pair.source.driver.lose_power()
    await eventually(lambda: not pair.target.driver.is_arriving(pair.desktop_id), "nothing arrives")
    assert await pair.target.driver.domains() == ()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"boot_id": uuid4()}, "desktop.not-running"),
        ({"desktop_id": uuid4()}, "desktop.migration-unknown"),
        ({"target_node": "node-c", "target_address": "192.0.2.3"}, "host.unreachable"),
        ({"target_node": "node-a", "target_address": "192.0.2.1"}, "desktop.migration-failed"),
    ],
)
async def test_refusals(pair: Pair, more: dict[str, object], code: str) -> None:
    command = pair.move(**more)
    await pair.source.migrating.migrate(command)
    assert await pair.source.end(command.migration_id) == code
    here = await pair.source.view(pair.desktop_id)
    assert here is not None
    assert here.state is DomainState.RUNNING


async def test_a_desktop_moves_to_one_place_at_a_time(pair: Pair) -> None:
    pair.source.driver.personality = Personality.NEVER
    await pair.source.migrating.migrate(pair.move())
    other = pair.move()
    await pair.source.migrating.migrate(other)
    assert await pair.source.end(other.migration_id) == "desktop.migrating"


async def test_a_command_for_another_run_of_the_agent_is_dropped(pair: Pair) -> None:
    await pair.source.migrating.migrate(pair.move(agent_id=uuid4()))
    assert pair.source.bus.published == []
    assert await pair.source.driver.migration_percent(pair.desktop_id) is None


async def test_a_third_waits_for_the_first_two() -> None:
    pair = Pair()
    boots = {uuid4(): uuid4() for _ in range(3)}
    for desktop_id, boot_id in boots.items():
        await pair.source.driver.start(wanted(desktop_id), boot_id)
    pair.source.driver.personality = Personality.NEVER
    async with pair.source.agent():
        commands = [pair.move(desktop_id=one, boot_id=boots[one]) for one in boots]
        for command in commands:
            await pair.source.migrating.migrate(command)

        async def two_leave() -> bool:
            return sum(view.migrating for view in await pair.source.driver.domains()) == 2

        await eventually(two_leave, "two of them leave")
        # One that waits is cancelled without having begun.
        await pair.source.migrating.cancel(
            CancelMigration(
                migration_id=commands[2].migration_id, desktop_id=commands[2].desktop_id
            )
        )
        assert await pair.source.end(commands[2].migration_id) == "desktop.migration-cancelled"
        assert await two_leave()


# --- the agent, or libvirtd, is away meanwhile ----------------------------------------------


async def test_nothing_is_taken_up_before_the_hypervisor_was_seen() -> None:
    pair = Pair()
    with pytest.raises(Outage):
        await pair.source.migrating.migrate(pair.move())


async def test_a_new_run_of_the_agent_follows_what_the_old_one_began() -> None:
    pair = Pair()
    await pair.source.driver.start(pair.command, pair.boot_id)
    pair.source.driver.personality = Personality.SLOW
    command = pair.move()
    async with pair.source.agent():
        await pair.source.migrating.migrate(command)
        await pair.under_way()
    pair.source.restart()
    async with pair.source.agent():
        # Inventory asks again, for the migration that it knows.
        again = command.model_copy(update={"agent_id": pair.source.node.agent_id})
        await pair.source.migrating.migrate(again)
        assert await pair.source.end(command.migration_id) is None
    assert len(pair.source.bus.of(MigrationEnded)) == 1
    assert await pair.target.view(pair.desktop_id) is not None


async def test_a_new_run_tells_that_one_failed_while_no_agent_looked() -> None:
    pair = Pair()
    await pair.source.driver.start(pair.command, pair.boot_id)
    pair.source.driver.personality = Personality.FAILS_MIDWAY
    command = pair.move()
    async with pair.source.agent():
        await pair.source.migrating.migrate(command)
        await pair.source.end(command.migration_id)
    pair.source.bus.published.clear()
    pair.source.restart()
    async with pair.source.agent():
        assert await pair.source.end(command.migration_id) == "desktop.migration-failed"


async def test_a_new_run_does_not_know_what_moved_while_no_agent_looked() -> None:
    pair = Pair()
    await pair.source.driver.start(pair.command, pair.boot_id)
    command = pair.move()
    await pair.source.driver.migrate(command)
    async with pair.source.agent():
        await pair.source.migrating.migrate(command)
        assert await pair.source.end(command.migration_id) == "desktop.migration-unknown"


@pytest.mark.parametrize(
    ("personality", "code"),
    [(Personality.SLOW, None), (Personality.FAILS_MIDWAY, "desktop.migration-failed")],
)
async def test_libvirtd_is_away_for_a_while(
    pair: Pair, personality: Personality, code: str | None
) -> None:
    pair.source.driver.personality = Personality.SLOW
    command = pair.move()
    await pair.source.migrating.migrate(command)
    await pair.under_way()
    pair.source.driver.away = True
    await eventually(lambda: pair.source.driver.unanswered > 3, "the agent notices")
    pair.source.driver.personality = personality
    assert pair.source.bus.of(MigrationEnded) == []
    pair.source.driver.away = False
    assert await pair.source.end(command.migration_id) == code


@pytest.mark.long
async def test_the_end_is_told_when_the_bus_is_back(pair: Pair) -> None:
    pair.source.bus.connected = False
    command = pair.move()
    await pair.source.migrating.migrate(command)

    async def gone() -> bool:
        return await pair.source.view(pair.desktop_id) is None

    await eventually(gone, "it is gone")
    pair.source.bus.connected = True
    assert await pair.source.end(command.migration_id) is None


@pytest.mark.parametrize("seed", range(20))
async def test_commands_twice_and_in_any_order_leave_one_guest(pair: Pair, seed: int) -> None:
    pair.source.driver.personality = Personality.SLOW
    host = pair.source
    handlers = Handlers(host.driver, host.reconciler, Trust(), migrating=host.migrating)
    command = pair.move()
    cancel = CancelMigration(migration_id=command.migration_id, desktop_id=pair.desktop_id)
    await twice_and_out_of_order(handlers.command, [command, cancel, pair.command], seed)
    await host.end(command.migration_id)
    here, there = await host.view(pair.desktop_id), await pair.target.view(pair.desktop_id)
    assert [view.mark.boot_id for view in (here, there) if view is not None] == [pair.boot_id]
