"""Hosts die, are cut off, are fenced and come back: no desktop ever runs twice, and all come right.

The same world as in `test_convergence_properties`, with a bus that is late, repeats and loses, and
with fences by a device and by the node's own lease, whose news is late as well.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.inventory.test_convergence_properties import (
    FORGETFUL,
    STEPS,
    WEIGHTS,
    Happening,
    live_through,
)
from tests.unit.inventory.world import NODES, World

from roost_common.contracts.desktop import Power, StopReason
from roost_common.contracts.host import FencedBy
from roost_common.contracts.spec import DesktopSpec, HaPolicy

pytestmark = pytest.mark.long


def a_host_dies(world: World, random: Random) -> None:
    name = random.choice(NODES)
    world.nodes[name].lose_power()
    world.cut_off(name)
    if random.random() < 0.8:
        world.fence(name, FencedBy.DEVICE)


def a_host_is_cut_off(world: World, random: Random) -> None:
    world.cut_off(random.choice(NODES))


def a_host_that_is_cut_off_is_fenced(world: World, random: Random) -> None:
    if world.cut:
        world.fence(random.choice(sorted(world.cut)), random.choice(list(FencedBy)))


def a_host_is_fenced_though_it_lives(world: World, random: Random) -> None:
    world.fence(random.choice(NODES), random.choice([FencedBy.DEVICE, FencedBy.HUMAN]))


def a_host_returns(world: World, random: Random) -> None:
    if world.cut:
        world.heal(random.choice(sorted(world.cut)))


def a_policy_is_changed(world: World, random: Random) -> None:
    desktop = random.choice(world.desktops)
    if not desktop.deleting:
        restart = random.random() < 0.7
        desktop.order_spec(
            DesktopSpec(
                vcpus=desktop.spec.vcpus,
                memory_mib=desktop.spec.memory_mib,
                ha=HaPolicy(restart=restart, priority=random.randrange(100)),
            )
        )
        desktop.touch(world.clock.now())


FAILURES: dict[Happening, float] = {
    a_host_dies: 1.5,
    a_host_is_cut_off: 1.5,
    a_host_that_is_cut_off_is_fenced: 2,
    a_host_is_fenced_though_it_lives: 0.3,
    a_host_returns: 5,
    a_policy_is_changed: 1,
}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_no_desktop_runs_twice_whatever_fails(seed: int) -> None:
    live_through(seed, {**WEIGHTS, **FAILURES}).come_to_rest()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_nor_where_agents_forget_and_the_bus_is_in_order(seed: int) -> None:
    live_through(seed, {**FORGETFUL, **FAILURES}).come_to_rest()


@pytest.mark.parametrize("seed", range(8))
def test_these_failures_stay_told(seed: int) -> None:
    live_through(seed, {**WEIGHTS, **FAILURES}).come_to_rest()


def _running() -> World:
    world = World()
    for _ in range(STEPS):
        world.deliver_all()
        if all(desktop.is_up for desktop in world.desktops):
            return world
        world.pass_time(1)
    raise AssertionError("they do not start")


def test_a_desktop_of_a_fenced_host_is_started_elsewhere_for_the_same_user() -> None:
    world = _running()
    lost = world.desktops[0]
    name, boot = lost.host, lost.boot_id
    assert name is not None
    world.nodes[name].lose_power()
    world.cut_off(name)
    world.loop()
    assert lost.host == name, "nothing is decided before the fence"
    world.fence(name, FencedBy.DEVICE)
    world.receive(world.post.pop())
    assert lost.host is None
    assert (lost.restarting, lost.stop_reason) == (True, StopReason.HOST_FAILED)
    for _ in range(5):
        world.pass_time(1)
        world.deliver_all()
    moved = [one for one in world.desktops if one.is_up]
    assert lost in moved or lost.awaits_room
    assert all(one.host != name for one in moved)
    assert not lost.is_up or (lost.boot_id != boot and not lost.restarting)


def test_what_a_lease_left_running_is_not_started_elsewhere() -> None:
    world = _running()
    stays = world.desktops[0]
    assert stays.told_spec is not None
    stays.told_spec = stays.told_spec.model_copy(update={"ha": HaPolicy(restart=False)})
    name = stays.host
    assert name is not None
    world.cut_off(name)
    world.fence(name, FencedBy.LEASE)
    world.deliver_all()
    assert (stays.host, stays.power) == (name, Power.ON)
    assert world.nodes[name].running() == {stays.id}


def test_who_is_not_to_be_restarted_stays_off_after_a_device() -> None:
    world = _running()
    off = world.desktops[0]
    assert off.told_spec is not None
    off.told_spec = off.told_spec.model_copy(update={"ha": HaPolicy(restart=False)})
    assert off.host is not None
    world.cut_off(off.host)
    world.fence(off.host, FencedBy.DEVICE)
    world.deliver_all()
    assert off.host is None
    assert (off.power, off.restarting) == (Power.OFF, False)


def test_a_host_gets_nothing_before_it_is_seen_free_of_what_belongs_elsewhere() -> None:
    world = _running()
    name = world.desktops[0].host
    assert name is not None
    world.cut_off(name)
    ended = world.nodes[name].agent_id
    world.fence(name, FencedBy.DEVICE)
    world.deliver_all()
    host = world.hosts[name]
    assert host.fenced
    assert not host.note_clear(ended), "the run that was fenced cannot say so"
    world.heal(name)
    world.deliver_all()
    assert not host.fenced
