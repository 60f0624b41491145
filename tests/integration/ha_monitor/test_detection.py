"""From beats on the bus to events, rows and alerts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.ha_monitor.conftest import eventually

from roost_common.contracts.alert import AlertRaised, Severity
from roost_ha_monitor.migrations import MIGRATIONS

pytestmark = pytest.mark.integration


async def test_models_and_migrations_agree(site: Any) -> None:
    await MIGRATIONS.check(site.database_url)


async def test_the_whole_story_of_a_host(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy():
        node.live()
        await site.heard("kvm1", "up")

        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")
        await eventually(
            lambda: site.listener.alerts("kvm1") == [("alert.raised", "host.down")], "raised"
        )
        raised = next(m for m in site.listener.heard if isinstance(m, AlertRaised))
        assert raised.severity is Severity.ALERT

        node.live()
        await site.heard("kvm1", "up", "suspected", "down", "recovered", "up")
        assert site.listener.alerts("kvm1") == [
            ("alert.raised", "host.down"),
            ("alert.cleared", "host.down"),
        ]
    site.listener.assert_each_once("kvm1")
    rows = await site.sql("select health, sequence, probation from hosts where node = 'kvm1'")
    assert [tuple(row.values()) for row in rows] == [("up", 5, False)]


async def test_many_hosts_fall_together_and_each_is_said_once(site: Any) -> None:
    nodes = [site.node(f"kvm{number}") for number in range(12)]
    async with site.copy():
        for node in nodes:
            node.live()
        for node in nodes:
            await site.heard(node.name, "up")
        for node in nodes[1:]:
            await node.die()
        for node in nodes[1:]:
            await site.heard(node.name, "up", "suspected", "down")
        assert site.listener.names("kvm0") == ["host.up"]
    for node in nodes:
        site.listener.assert_each_once(node.name)


async def test_old_beats_sent_again_keep_nobody_alive(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy():
        node.live()
        await site.heard("kvm1", "up")
        await node.die()

        async def echo() -> None:
            while True:
                await node.repeat()
                await asyncio.sleep(0.1)

        task = asyncio.create_task(echo())
        try:
            await site.heard("kvm1", "up", "suspected", "down")
        finally:
            task.cancel()
    site.listener.assert_each_once("kvm1")


async def test_libvirt_away_is_an_alert_and_no_failure_of_the_host(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy():
        node.live()
        await site.heard("kvm1", "up")
        node.libvirt = False
        want = [("alert.raised", "host.libvirt-down")]
        await eventually(lambda: site.listener.alerts("kvm1") == want, "raised")
        raised = next(m for m in site.listener.heard if isinstance(m, AlertRaised))
        assert raised.severity is Severity.ERROR

        async def written() -> bool:
            rows = await site.sql("select libvirt from hosts where node = 'kvm1'")
            return bool(rows) and rows[0]["libvirt"] is False

        await eventually(written, "the row says so")
        node.libvirt = True
        want = [*want, ("alert.cleared", "host.libvirt-down")]
        await eventually(lambda: site.listener.alerts("kvm1") == want, "cleared")
    assert site.listener.names("kvm1") == ["host.up"]


async def test_a_connection_that_hangs_downs_nobody(site: Any, wire_to_the_bus: Any) -> None:
    """The host beats all the while; the only copy cannot hear it, and is not told why."""
    node, dead = site.node("kvm1"), site.node("kvm2")
    async with wire_to_the_bus() as (wire, amqp_url), site.copy(amqp_url):
        node.live()
        dead.live()
        await site.heard("kvm1", "up")
        await site.heard("kvm2", "up")
        wire.freeze()
        frozen_at = node.sequence
        # Twice as long as it takes to call a host down.
        await eventually(lambda: node.sequence >= frozen_at + 33, "the host beats on")
        await dead.die()
        wire.thaw()
        await site.heard("kvm2", "up", "suspected", "down")
    assert site.listener.names("kvm1") == ["host.up"]


async def test_a_copy_that_was_overtaken_reads_again_and_goes_on(site: Any) -> None:
    node = site.node("kvm1")
    async with site.copy():
        node.live()
        await site.heard("kvm1", "up")
        # Another copy, or a removal, changed the row behind this one's back.
        await site.sql("update hosts set sequence = 41 where node = 'kvm1'")
        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")
    assert [fact.sequence for fact in site.listener.health("kvm1")] == [1, 42, 43]


async def test_a_restart_of_the_service_says_nothing_new(site: Any) -> None:
    node = site.node("kvm1")
    node.live()
    async with site.copy():
        await site.heard("kvm1", "up")
    assert await site.holder() is None, "a clean stop gives the lease back"
    async with site.copy():

        async def leads() -> bool:
            return await site.holder() is not None

        await eventually(leads, "the next copy leads")
        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")
    site.listener.assert_each_once("kvm1")


async def test_a_second_path_that_does_not_show_a_living_host_is_an_alert(
    site: Any, tmp_path: Path
) -> None:
    """Everything is well but for the shared directory, which is another one."""
    node, seen = site.node("kvm1"), site.node("kvm2")
    (tmp_path / "kvm2.json").write_text(json.dumps({"agent_id": str(seen.agent_id), "counter": 1}))
    site.extra = {"probe_ports": (), "ha_dir": tmp_path, "second_path_check_s": 0.5}
    kind = "host.no-second-path"
    raised = ("alert.raised", kind)
    async with site.copy():
        node.live()
        seen.live()
        await eventually(lambda: site.listener.alerts("kvm1", kind) == [raised], "raised")
        (tmp_path / "kvm1.json").write_text(
            json.dumps({"agent_id": str(node.agent_id), "counter": 1})
        )
        cleared = ("alert.cleared", kind)
        await eventually(lambda: site.listener.alerts("kvm1", kind) == [raised, cleared], "over")
    assert site.listener.alerts("kvm2", kind) == []
    assert site.listener.names("kvm1") == ["host.up"]


async def test_when_the_site_starts_hosts_are_given_time_to_boot(site: Any) -> None:
    """Nobody watched for a weekend; then the managers are up before the hosts are."""
    early, late, gone = (site.node(f"kvm{number}") for number in range(3))
    async with site.copy():
        for node in (early, late, gone):
            node.live()
        for node in (early, late, gone):
            await site.heard(node.name, "up")
    for node in (early, late, gone):
        await node.die()
    await site.sql("update hosts set last_beat_at = last_beat_at - interval '2 days'")
    site.extra = {"return_s": 12.0}
    async with site.copy():
        early.reboot()
        await site.heard("kvm1", "up", "suspected")
        late.reboot()
        await site.heard("kvm1", "up", "suspected", "up")
        # Who does not come is down in the end.
        await site.heard("kvm2", "up", "suspected", "down")
    assert "down" not in " ".join(site.listener.names("kvm1"))
