"""Two copies as processes of their own; the one that decides dies, hangs, comes back."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.lease import LIFE_S

pytestmark = [pytest.mark.integration, pytest.mark.early]


async def test_the_leader_is_killed_and_a_host_dies_with_it(site: Any) -> None:
    node, other = site.node("kvm1"), site.node("kvm2")
    node.live()
    other.live()
    leader = await site.process()
    await site.heard("kvm1", "up")
    await site.heard("kvm2", "up")
    first = await site.holder()
    assert first is not None
    await site.process()

    leader.send_signal(signal.SIGKILL)
    await node.die()
    killed_at = time.monotonic()
    await leader.wait()

    async def taken_over() -> bool:
        return await site.holder() not in (None, first)

    await eventually(taken_over, "another copy holds the lease", LIFE_S + 4)
    # The standby has listened all along: the silence counts from the last beat, not from now.
    await site.heard("kvm1", "up", "suspected", "down")
    # Life of the lease, a tick, the bus; and room for a machine that does other things as well.
    assert time.monotonic() - killed_at < LIFE_S + 6
    assert site.listener.names("kvm2") == ["host.up"]
    site.listener.assert_each_once("kvm1")


async def test_a_leader_that_stood_still_is_replaced_and_says_nothing_when_it_wakes(
    site: Any,
) -> None:
    node, other = site.node("kvm1"), site.node("kvm2")
    node.live()
    other.live()
    leader = await site.process()
    await site.heard("kvm1", "up")
    await site.heard("kvm2", "up")
    first = await site.holder()
    standby = await site.process()

    leader.send_signal(signal.SIGSTOP)

    async def taken_over() -> bool:
        return await site.holder() not in (None, first)

    await eventually(taken_over, "another copy holds the lease", LIFE_S + 4)
    await node.die()
    await site.heard("kvm1", "up", "suspected", "down")
    leader.send_signal(signal.SIGCONT)
    node.live()
    await site.heard("kvm1", "up", "suspected", "down", "recovered", "up")

    # And the way back: the one that woke is a good standby again.
    standby.send_signal(signal.SIGKILL)
    await standby.wait()
    await node.die()
    await site.heard("kvm1", "up", "suspected", "down", "recovered", "up", "suspected", "down")
    assert site.listener.names("kvm2") == ["host.up"]
    site.listener.assert_each_once("kvm1")


async def test_a_leader_that_hears_nothing_makes_way_for_one_that_does(
    site: Any, wire_to_the_bus: Any
) -> None:
    node = site.node("kvm1")
    node.live()
    async with wire_to_the_bus() as (wire, amqp_url), site.copy(amqp_url):
        await site.heard("kvm1", "up")
        deaf = await site.holder()
        async with site.copy():
            wire.freeze()
            await node.die()

            async def taken_over() -> bool:
                return await site.holder() not in (None, deaf)

            await eventually(taken_over, "the one that hears holds the lease")
            await site.heard("kvm1", "up", "suspected", "down")
            wire.thaw()
    site.listener.assert_each_once("kvm1")


async def test_a_clean_stop_hands_over_at_once(site: Any) -> None:
    leader = await site.process()

    async def led() -> bool:
        return await site.holder() is not None

    await eventually(led, "the first copy leads")
    first = await site.holder()
    await site.process()
    leader.send_signal(signal.SIGTERM)
    assert await leader.wait() == 0

    async def taken_over() -> bool:
        return await site.holder() not in (None, first)

    await eventually(taken_over, "the other copy leads", LIFE_S - 1)
