"""Desktops come right, whatever the bus loses, repeats, delays or swaps.

At every moment: a desktop never runs on two nodes, what runs is where inventory has it, no node is
promised more than it has, generations only grow. And when the trouble is over, every desktop
becomes what it should be.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.inventory.stage import FULL, LOCKED
from tests.unit.inventory.world import NODES, World

from roost_common.contracts.desktop import Power, StopMode, StopReason

pytestmark = pytest.mark.long

STEPS = 300

Happening = Callable[[World, Random], None]


def a_message_arrives(world: World, random: Random) -> None:
    if world.post:
        world.receive(world.post.pop(random.randrange(len(world.post))))


def the_oldest_message_arrives(world: World, _: Random) -> None:
    if world.post:
        world.receive(world.post.pop(0))


def a_message_is_repeated(world: World, random: Random) -> None:
    if world.post:
        world.receive(random.choice(world.post))


def a_message_is_lost(world: World, random: Random) -> None:
    if world.post:
        world.post.pop(random.randrange(len(world.post)))


def inventory_looks(world: World, _: Random) -> None:
    world.loop()


def a_moment_passes(world: World, random: Random) -> None:
    world.pass_time(random.choice([0.1, 1, 3, 11]))
    world.loop()


def a_long_time_passes(world: World, random: Random) -> None:
    world.pass_time(random.choice([30, 61, 130]))
    world.loop()


def a_node_reports(world: World, random: Random) -> None:
    name = random.choice(NODES)
    world.speak(name, world.nodes[name].report(complete=random.random() < 0.9))


def power_is_ordered(world: World, random: Random) -> None:
    desktop, now = random.choice(world.desktops), world.clock.now()
    power = Power.ON if random.random() < 0.6 else Power.OFF
    desktop.order_power(power, now, stop=random.choice(list(StopMode)), grace_s=30)
    desktop.touch(now)


def a_fresh_disk_is_ordered(world: World, random: Random) -> None:
    desktop = random.choice(world.desktops)
    desktop.order_reimage(desktop.disk_generation + 1, None)
    desktop.touch(world.clock.now())


def a_desktop_is_deleted(world: World, random: Random) -> None:
    desktop = random.choice(world.desktops)
    desktop.order_deletion()
    desktop.touch(world.clock.now())


def a_guest_goes_off(world: World, random: Random) -> None:
    name = random.choice(NODES)
    node = world.nodes[name]
    if node.running():
        reason = random.choice([StopReason.CRASHED, StopReason.GUEST_SHUTDOWN])
        world.speak(name, node.stop(min(node.running()), reason))


def guests_follow(world: World, random: Random) -> None:
    world.finish_shutdowns(random.choice(NODES))


def a_node_refuses_or_not(world: World, random: Random) -> None:
    world.nodes[random.choice(NODES)].refuses = LOCKED if random.random() < 0.4 else None


def storage_is_full_or_not(world: World, random: Random) -> None:
    world.imaging.refuses = FULL if random.random() < 0.4 else None


def a_host_is_called_down_or_up(world: World, random: Random) -> None:
    name = random.choice(NODES)
    world.call(name, silent=name in world.cut or random.random() < 0.4)


WEIGHTS: dict[Happening, float] = {
    a_message_arrives: 30,
    the_oldest_message_arrives: 30,
    a_message_is_repeated: 10,
    a_message_is_lost: 3,
    inventory_looks: 20,
    a_moment_passes: 12,
    a_long_time_passes: 1,
    a_node_reports: 8,
    power_is_ordered: 8,
    a_fresh_disk_is_ordered: 2,
    a_desktop_is_deleted: 0.3,
    a_guest_goes_off: 6,
    guests_follow: 4,
    a_node_refuses_or_not: 4,
    storage_is_full_or_not: 1,
    a_host_is_called_down_or_up: 1,
}


def a_long_time_passes_with_the_bus_at_work(world: World, random: Random) -> None:
    world.deliver_all()
    a_long_time_passes(world, random)


def an_agent_starts_anew(world: World, random: Random) -> None:
    world.nodes[random.choice(NODES)].restart_agent()


def an_agent_starts_anew_with_an_earlier_clock(world: World, random: Random) -> None:
    world.nodes[random.choice(NODES)].restart_agent(set_back=timedelta(hours=1))


def a_node_loses_its_power(world: World, random: Random) -> None:
    world.nodes[random.choice(NODES)].lose_power()


FORGETFUL: dict[Happening, float] = {
    **{
        happening: weight
        for happening, weight in WEIGHTS.items()
        if happening
        not in (a_message_arrives, a_message_is_repeated, a_message_is_lost, a_long_time_passes)
    },
    the_oldest_message_arrives: 60,
    a_long_time_passes_with_the_bus_at_work: 1,
    an_agent_starts_anew: 2,
    an_agent_starts_anew_with_an_earlier_clock: 1,
    a_node_loses_its_power: 1,
}
"""A bus in order, as RabbitMQ's is but for accidents, and nodes that forget what they knew."""


def live_through(
    seed: int, happens: dict[Happening, float], make: Callable[[], World] = World
) -> World:
    """One history, made from a number, so that a failure can be lived through again."""
    random, world = Random(seed), make()
    world.skew_s = random.choice((-50.0, 0.0, 50.0))
    happenings, weights = list(happens), list(happens.values())
    for happening in random.choices(happenings, weights, k=STEPS):
        happening(world, random)
        world.check()
    return world


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_they_come_right(seed: int) -> None:
    live_through(seed, WEIGHTS).come_to_rest()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_nodes_that_forget_change_nothing_about_it(seed: int) -> None:
    live_through(seed, FORGETFUL).come_to_rest()


@pytest.mark.parametrize("seed", range(10))
def test_these_histories_stay_told(seed: int) -> None:
    live_through(seed, WEIGHTS).come_to_rest()
