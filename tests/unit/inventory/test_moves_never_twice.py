"""Desktops are moved while everything fails: none ever runs twice, none is lost, all come right.

The world of `test_never_twice` with a third node, on which a desktop that is neither here nor
there could be started by mistake.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.inventory.movers import Movers
from tests.unit.inventory.test_convergence_properties import (
    FORGETFUL,
    STEPS,
    WEIGHTS,
    Happening,
    live_through,
)
from tests.unit.inventory.test_never_twice import FAILURES
from tests.unit.inventory.world import Letter, World

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import EnsureDesktop, Power, StopMode
from roost_common.contracts.host import FencedBy, HostDesktopsLost
from roost_common.contracts.migration import CancelMigration, MigrateDesktop, MigrationEnded
from roost_common.errors import Conflict
from roost_inventory.model import Desktop, Migration
from roost_inventory.model.desktop_moves import Destination
from roost_inventory.model.migration import Cause, MigrationState
from roost_inventory.placement import Overcommit

pytestmark = pytest.mark.long

THREE = ("n1", "n2", "n3")
PLENTY = Overcommit(memory_reserve_mib=0)


class MovingWorld(World):
    """With agents that move desktops."""

    def __init__(self) -> None:
        super().__init__(THREE)
        self.movers = Movers(self.nodes)
        self.lost: list[HostDesktopsLost] = []
        self.migrations: list[Migration] = []

    def receive(self, letter: Letter) -> None:
        message, node = letter.message, letter.node
        self.movers.forget_the_dead()
        match message:
            case EnsureDesktop() | MigrateDesktop() | CancelMigration():
                assert node is not None
                if node in self.cut:
                    self.post.append(letter)
                    return
                for answer in self.movers.take(message, node):
                    self.say(answer, None)
            case MigrationEnded():
                self._ended(message)
            case HostDesktopsLost():
                self.lost.append(message)
            case _:
                super().receive(letter)

    def _ended(self, message: MigrationEnded) -> None:
        desktop = self.desktop(message.desktop_id)
        if desktop.migration is not None and desktop.migration.id == message.migration_id:
            desktop.migration.note_over(message.problem, self.clock.now())
            desktop.touch(self.clock.now())

    def fence(self, name: str, by: FencedBy) -> None:
        if by is FencedBy.LEASE:
            self.movers.refuse(name)
        super().fence(name, by)
        self.movers.forget_the_dead()

    def move(self, desktop: Desktop, name: str, *, deadline_s: float = 120) -> Migration:
        """As `Migrating.begin` does it. Raises `Conflict`."""
        desktop.require_movable()
        room = self._candidate(name)
        if not room.usable or not room.has_room(desktop.demand(), PLENTY) or desktop.knows(name):
            raise Conflict("host.unusable", "Not there.")
        migration = desktop.depart(
            Destination(name, f"{name}.example", self.hosts[name].agent_id),
            cause=Cause.REQUESTED,
            reason="Because.",
            now=self.clock.now(),
            deadline=timedelta(seconds=deadline_s),
        )
        self.migrations.append(migration)
        return migration

    def told(self, said: dict[str, list[Message]]) -> None:
        """What nodes say, as far as anybody can hear it."""
        for name, messages in said.items():
            for message in messages:
                self.speak(name, message)

    def finish_all(self) -> None:
        """Every move that can end well does."""
        self.movers.forget_the_dead()
        for desktop in list(self.movers.moves):
            self.told(self.movers.finish(desktop))

    def come_to_rest(self) -> None:
        self.finish_all()
        super().come_to_rest()
        assert all(migration.ended_at is not None for migration in self.migrations)
        assert all(desktop.migration is None for desktop in self.desktops)

    def deliver_all(self) -> None:
        super().deliver_all()
        if not self.cut and not self.silent:
            self.finish_all()


def here(world: World) -> MovingWorld:
    assert isinstance(world, MovingWorld)
    return world


def a_desktop_is_to_be_moved(world: World, random: Random) -> None:
    try:
        here(world).move(random.choice(world.desktops), random.choice(THREE))
    except Conflict:
        return


def a_migration_is_cancelled(world: World, random: Random) -> None:
    desktop = random.choice(world.desktops)
    if desktop.migration is not None:
        desktop.migration.cancel(None)
        desktop.touch(world.clock.now())


def a_move_ends_well(world: World, random: Random) -> None:
    movers = here(world).movers
    movers.forget_the_dead()
    if movers.moves:
        here(world).told(movers.finish(random.choice(sorted(movers.moves))))


def a_move_fails(world: World, random: Random) -> None:
    movers = here(world).movers
    movers.forget_the_dead()
    if movers.moves:
        here(world).told(movers.fail(random.choice(sorted(movers.moves))))


MOVES: dict[Happening, float] = {
    a_desktop_is_to_be_moved: 12,
    a_migration_is_cancelled: 2,
    a_move_ends_well: 6,
    a_move_fails: 2,
}


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_no_desktop_runs_twice_while_desktops_are_moved(seed: int) -> None:
    live_through(seed, {**WEIGHTS, **FAILURES, **MOVES}, MovingWorld).come_to_rest()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_nor_where_agents_forget(seed: int) -> None:
    live_through(seed, {**FORGETFUL, **FAILURES, **MOVES}, MovingWorld).come_to_rest()


@pytest.mark.parametrize("seed", [*range(6), 2003])
def test_these_moves_stay_told(seed: int) -> None:
    live_through(seed, {**FORGETFUL, **FAILURES, **MOVES}, MovingWorld).come_to_rest()


# --- one by one -------------------------------------------------------------------------------


def _running() -> tuple[MovingWorld, Desktop, str, str]:
    """All run; the first one, its host, and one with room for it."""
    world = MovingWorld()
    for _ in range(STEPS):
        world.deliver_all()
        if all(desktop.is_up for desktop in world.desktops):
            break
        world.pass_time(1)
    desktop = world.desktops[0]
    assert desktop.host is not None
    other = next(name for name in THREE if name != desktop.host)
    return world, desktop, desktop.host, other


def _begun() -> tuple[MovingWorld, Desktop, Migration]:
    """The first one is on its way."""
    world, desktop, _, other = _running()
    migration = world.move(desktop, other)
    world.loop()
    waiting, world.post = world.post, []
    for letter in waiting:
        world.receive(letter)
    assert desktop.id in world.movers.moves
    return world, desktop, migration


def _rest(world: MovingWorld, seconds: int = 60) -> None:
    for _ in range(seconds // 5):
        world.pass_time(5)
        for name, node in world.nodes.items():
            world.speak(name, node.report())
        for _ in range(4):
            waiting, world.post = world.post, []
            for letter in waiting:
                world.receive(letter)
            world.loop()
            world.check()


def test_it_moves_with_its_run_and_its_room() -> None:
    world, desktop, migration = _begun()
    boot, revision = desktop.boot_id, desktop.generation
    assert desktop.view().migrating_to == migration.target
    assert world._candidate(migration.target).used_vcpus >= 1
    world.finish_all()
    _rest(world, 5)
    assert (desktop.host, desktop.boot_id, desktop.migration) == (migration.target, boot, None)
    assert migration.state is MigrationState.DONE
    assert desktop.spice is not None
    assert desktop.spice.host == migration.target
    assert desktop.generation == revision == desktop.told_generation
    world.come_to_rest()


def test_a_source_that_dies_in_the_middle_is_waited_for_and_the_desktop_starts_anew() -> None:
    world, desktop, migration = _begun()
    world.nodes[migration.source].lose_power()
    world.cut_off(migration.source)
    _rest(world)
    assert desktop.host == migration.source, "nobody knows yet that it is dead"
    world.fence(migration.source, FencedBy.DEVICE)
    _rest(world, 30)
    assert migration.state is MigrationState.FAILED
    assert desktop.is_up
    assert desktop.host != migration.source
    [lost] = [one for message in world.lost for one in message.desktops]
    assert (lost.desktop_id, lost.restart) == (desktop.id, True)


def test_a_source_that_dies_when_it_has_sent_all_loses_nothing() -> None:
    world, desktop, migration = _begun()
    boot = desktop.boot_id
    world.cut_off(migration.source)
    world.finish_all()
    _rest(world, 10)
    assert desktop.host == migration.source, "the source has not said that it is gone"
    world.fence(migration.source, FencedBy.DEVICE)
    _rest(world, 10)
    assert (desktop.host, desktop.boot_id) == (migration.target, boot)
    assert migration.state is MigrationState.DONE
    assert world.lost == []


def test_a_target_that_dies_in_the_middle_changes_nothing() -> None:
    world, desktop, migration = _begun()
    boot = desktop.boot_id
    world.nodes[migration.target].lose_power()
    world.cut_off(migration.target)
    _rest(world, 20)
    assert desktop.migrating_to, "the target may still have it, as far as is known"
    world.fence(migration.target, FencedBy.DEVICE)
    _rest(world, 20)
    assert (desktop.host, desktop.boot_id, desktop.migration) == (migration.source, boot, None)
    assert migration.state is MigrationState.FAILED


def test_a_target_that_dies_with_what_it_has_got_is_lost_like_any_host() -> None:
    world, desktop, migration = _begun()
    world.cut_off(migration.target)
    world.finish_all()
    _rest(world, 10)
    assert desktop.host == migration.source
    world.fence(migration.target, FencedBy.DEVICE)
    _rest(world, 30)
    assert desktop.is_up
    assert desktop.host != migration.target
    [message] = world.lost
    assert (message.node, message.desktops[0].desktop_id) == (migration.target, desktop.id)


def test_both_die() -> None:
    world, desktop, migration = _begun()
    for name in (migration.source, migration.target):
        world.nodes[name].lose_power()
        world.cut_off(name)
        world.fence(name, FencedBy.DEVICE)
    _rest(world, 30)
    assert migration.state is MigrationState.FAILED
    third = next(name for name in THREE if name not in (migration.source, migration.target))
    assert (desktop.host, desktop.is_up) == (third, True)


def test_one_that_is_switched_off_on_its_way_is_called_back_first() -> None:
    world, desktop, migration = _begun()
    now = world.clock.now()
    desktop.order_power(Power.OFF, now, stop=StopMode.POWEROFF, grace_s=0)
    desktop.touch(now)
    _rest(world, 30)
    assert migration.state is MigrationState.CANCELLED
    assert migration.problem is not None
    assert migration.problem.code == "migration.overtaken"
    assert (desktop.host, desktop.power) == (None, Power.OFF)
    assert all(desktop.id not in node.domains for node in world.nodes.values())


def test_a_guest_that_shuts_itself_down_on_its_way_is_left_off() -> None:
    world, desktop, migration = _begun()
    node = world.nodes[migration.source]
    node._remove(desktop.id, node.domains[desktop.id].generation)
    world.movers.forget_the_dead()
    world.say(node.event(desktop.id), None)
    _rest(world, 40)
    assert migration.state is MigrationState.FAILED
    assert desktop.is_up, "nobody asked it to stop: it is started again"
