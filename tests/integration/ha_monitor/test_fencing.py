"""From a dead host to its fence: devices that work, fail, hang and lie; leases; people."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.integration.ha_monitor.conftest import DOWN_S, eventually

from roost_common.contracts.host import FencedBy, FenceScope, HostFenced
from roost_common.contracts.incident import (
    IncidentChanged,
    IncidentOpened,
    IncidentResolved,
    IncidentState,
    Resolution,
)
from roost_common.security import Role

pytestmark = pytest.mark.integration


@asynccontextmanager
async def administering(site: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A copy that decides, its API, and a host that could take others' desktops."""
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        site.node("kvm9").live()
        await site.heard("kvm9", "up")
        yield admin


async def put(admin: httpx.AsyncClient, node: str, *devices: dict[str, Any]) -> httpx.Response:
    return await admin.put(f"/api/v1/ha/fencing/{node}", json=list(devices))


async def live_with_devices(site: Any, admin: httpx.AsyncClient, nodes: list[Any]) -> None:
    """All of them are up, each with a fence device of its own."""
    for node in nodes:
        node.live()
    for node in nodes:
        await site.heard(node.name, "up")
        await put(admin, node.name, site.agents.device(node.name))


async def incident_of(admin: httpx.AsyncClient, node: str) -> dict[str, Any]:
    """The newest incident of a host, with all that belongs to it."""
    items = (await admin.get("/api/v1/ha/incidents")).json()["items"]
    newest = next(item for item in items if item["node"] == node)
    whole: dict[str, Any] = (await admin.get(f"/api/v1/ha/incidents/{newest['id']}")).json()
    return whole


async def fenced(site: Any, node: str) -> HostFenced:
    def facts() -> list[HostFenced]:
        return [fact for fact in site.listener.of(HostFenced) if fact.node == node]

    await eventually(facts, f"{node} is fenced")
    return facts()[0]


async def test_a_dead_host_is_switched_off_and_said_to_be_once(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        assert (await put(admin, "kvm1", site.agents.device("1"))).status_code == 200
        await node.die()
        fact = await fenced(site, "kvm1")
        assert (fact.by, fact.scope) == (FencedBy.DEVICE, FenceScope.ALL)
        assert fact.agent_id == node.agent_id
        incident = await incident_of(admin, "kvm1")
        assert (incident["state"], incident["fenced_by"]) == ("recovering", "device")
        assert [(each["alert"], each["cleared_at"]) for each in incident["alerts"]] == [
            ("host.down", None)
        ]
        (attempt,) = incident["attempts"]
        assert attempt["fenced"]
        assert attempt["ended_at"] is not None
        assert fact.incident_id.hex == incident["id"].replace("-", "")
    assert site.agents.power("1") == "off"
    assert site.agents.switched("1") == [":off"]
    opened = site.listener.of(IncidentOpened)
    assert [event.incident_id for event in opened] == [fact.incident_id]
    assert len(site.listener.of(HostFenced)) == 1


async def test_devices_that_fail_hang_or_lie_are_left_for_the_next(site: Any) -> None:
    node = site.node("kvm1")
    for way, how in (("a", "fails"), ("b", "hangs"), ("c", "lies")):
        site.agents.behave(way, how)
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        devices = [site.agents.device("1", way) for way in "abcd"]
        assert (await put(admin, "kvm1", *devices)).status_code == 200
        await node.die()
        assert (await fenced(site, "kvm1")).by is FencedBy.DEVICE
        attempts = (await incident_of(admin, "kvm1"))["attempts"]
    assert site.agents.switched("1") == ["a:off", "b:off", "c:off", "d:off"]
    outcomes = [attempt["outcome"] for attempt in attempts]
    assert "could not log in" in outcomes[0]
    assert "within 3 s" in outcomes[1]
    assert "then that it is on" in outcomes[2]
    assert [attempt["fenced"] for attempt in attempts] == [False, False, False, True]
    assert not any("secret-of-1" in outcome for outcome in outcomes)


async def test_without_proof_nothing_is_fenced_until_a_person_says_so(site: Any) -> None:
    node = site.node("kvm1")
    site.agents.behave("", "lies")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        assert (await put(admin, "kvm1", site.agents.device("1"))).status_code == 200
        await node.die()
        raised = [("alert.raised", "host.unfenced")]
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced") == raised, "a person is called"
        )
        assert not site.listener.of(HostFenced)
        incident = await incident_of(admin, "kvm1")
        assert incident["state"] == "awaiting-confirmation"

        path = f"/api/v1/ha/incidents/{incident['id']}/confirm"
        first = (await admin.post(path)).json()
        assert (first["fenced_by"], first["confirmed_by"]) == ("human", "root")
        fact = await fenced(site, "kvm1")
        assert (fact.by, fact.scope) == (FencedBy.HUMAN, FenceScope.ALL)
        assert (await admin.post(path)).json()["fenced_at"] == first["fenced_at"]
        cleared = [*raised, ("alert.cleared", "host.unfenced")]
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced") == cleared, "nobody is called"
        )
    assert len(site.listener.of(HostFenced)) == 1


async def test_a_device_that_was_mended_is_used_at_once(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await put(admin, "kvm1", site.agents.device("1"))
        site.agents.behave("", "fails")
        await node.die()
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced"), "nothing could be done"
        )
        site.agents.behave("", "works")
        assert (await put(admin, "kvm1", site.agents.device("1"))).status_code == 200
        assert (await fenced(site, "kvm1")).by is FencedBy.DEVICE


async def test_nobody_confirms_that_a_host_is_off_that_beats_or_answers(site: Any) -> None:
    node = site.node("kvm1")
    with socket.socket() as machine:
        machine.bind(("127.0.0.1", 0))
        port = machine.getsockname()[1]
        node.address = "127.0.0.1"
        # Nobody listens when the host falls silent; a closed port of loopback refuses, so the
        # second path is left out of the detection.
        site.extra = {"probe_ports": (port,)}
        async with administering(site) as admin:
            node.live()
            await site.heard("kvm1", "up")
            incident_id = uuid4()
            await site.sql(
                "insert into incidents (id, node, state, detail, noticed_at, rounds, lost_known)"
                " values ($1, 'kvm1', 'awaiting-confirmation', '', now(), 0, false)",
                incident_id,
            )
            refused = await admin.post(f"/api/v1/ha/incidents/{incident_id}/confirm")
            codes = {"host.beats", "incident.over"}
            assert refused.status_code == 409
            assert refused.json()["code"] in codes

            machine.listen()
            await node.die()
            await site.heard("kvm1", "up", "suspected", "suspected")
            await site.sql(
                "update hosts set health = 'down', sequence = sequence + 1 where node = 'kvm1'"
            )
            other = uuid4()
            await site.sql(
                "insert into incidents (id, node, state, detail, noticed_at, rounds, lost_known)"
                " values ($1, 'kvm1', 'awaiting-confirmation', '', now(), 0, false)",
                other,
            )
            answers = await admin.post(f"/api/v1/ha/incidents/{other}/confirm")
            assert (answers.status_code, answers.json()["code"]) == (409, "host.still-answers")
    assert not site.listener.of(HostFenced)


async def test_a_host_that_beats_again_is_a_false_alarm(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await node.die()
        await eventually(
            lambda: site.listener.alerts("kvm1", "host.unfenced"), "a person is called"
        )
        node.live()
        await eventually(lambda: site.listener.of(IncidentResolved), "it is over")
        (resolved,) = site.listener.of(IncidentResolved)
        assert resolved.resolution is Resolution.FALSE_ALARM
        incident = await incident_of(admin, "kvm1")
        assert incident["state"] == "resolved"
        again = await admin.post(f"/api/v1/ha/incidents/{incident['id']}/confirm")
        assert (again.status_code, again.json()["code"]) == (409, "host.beats")
    assert not site.listener.of(HostFenced)


async def test_an_off_that_was_sent_is_brought_to_its_end_although_the_host_beats_again(
    site: Any,
) -> None:
    node = site.node("kvm1")
    site.agents.behave("", "hangs")
    site.extra = {"fence_switch_timeout_s": 120.0}
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await put(admin, "kvm1", site.agents.device("1"))
        await node.die()
        await eventually(lambda: site.agents.switched("1"), "the device is told")
        node.live()
        await site.heard("kvm1", "up", "suspected", "down", "recovered")
        site.agents.behave("", "works")
        # The power goes now, in the middle of its beats.
        await eventually(lambda: site.agents.power("1") == "off", "the power is cut")
        await node.die()
        fact = await fenced(site, "kvm1")
        assert fact.by is FencedBy.DEVICE
    assert not site.listener.of(IncidentResolved)


async def test_a_host_that_beats_on_after_off_is_not_fenced(site: Any) -> None:
    """The device switches another host off than it should."""
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await put(admin, "kvm1", site.agents.device("1"))
        asked = await admin.post("/api/v1/ha/fencing/kvm1/fence")
        assert (asked.status_code, asked.json()["forced_by"]) == (200, "root")
        await eventually(lambda: site.listener.of(IncidentResolved), "it is given up")
        incident = await incident_of(admin, "kvm1")
        assert (incident["resolution"], incident["fenced_by"]) == ("false-alarm", None)
        assert incident["attempts"][0]["outcome"] == "It says that it is off, but it beats."
    assert not site.listener.of(HostFenced)
    assert site.listener.names("kvm1") == ["host.up"]


async def test_an_administrator_fences_a_host_that_hangs(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        refused = await admin.post("/api/v1/ha/fencing/kvm1/fence")
        assert (refused.status_code, refused.json()["code"]) == (409, "fencing.no-device")
        await put(admin, "kvm1", site.agents.device("1"))
        await admin.post("/api/v1/ha/fencing/kvm1/fence")
        await eventually(lambda: site.agents.power("1") == "off", "the power is cut")
        await node.die()
        fact = await fenced(site, "kvm1")
        # Its silence is the fence's: there is no second incident.
        await site.heard("kvm1", "up", "suspected", "down")
        assert fact.agent_id == node.agent_id
        assert (await admin.get("/api/v1/ha/incidents")).json()["total"] == 1


async def test_two_hosts_at_once_are_fenced_side_by_side(site: Any) -> None:
    nodes = [site.node(f"kvm{number}") for number in range(3)]
    site.agents.behave("", "hangs")
    # Longer than anything here is waited for: one after the other would not do.
    site.extra = {"fence_switch_timeout_s": 120.0}
    async with administering(site) as admin:
        await live_with_devices(site, admin, nodes)
        for node in nodes[1:]:
            await node.die()
        for node in nodes[1:]:
            await eventually(partial(site.agents.switched, node.name), f"{node.name}'s is told")
        site.agents.behave("", "works")
        facts = [await fenced(site, node.name) for node in nodes[1:]]
    assert len({fact.incident_id for fact in facts}) == 2
    assert site.listener.names("kvm0") == ["host.up"]


async def test_more_hosts_than_are_fenced_by_themselves_wait_for_a_person(site: Any) -> None:
    nodes = [site.node(f"kvm{number}") for number in range(3)]
    site.extra = {"fence_at_most": 0.3}
    async with administering(site) as admin:
        await live_with_devices(site, admin, nodes)
        await asyncio.gather(*(node.die() for node in nodes))

        def called() -> list[str]:
            return [each.name for each in nodes if site.listener.alerts(each.name, "host.unfenced")]

        # The first that was seen may have been alone at that moment; the others were not.
        await eventually(lambda: len(called()) >= 2, "a person is called")
        assert len(site.listener.of(HostFenced)) <= 1
        assert "at once" in (await incident_of(admin, called()[-1]))["detail"]


async def test_where_no_host_is_left_none_is_switched_off(site: Any) -> None:
    """Managers that lost their own network see all hosts die; the devices still answer them."""
    nodes = [site.node(f"kvm{number}") for number in range(2)]
    site.extra = {"return_s": 6.0}
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        await live_with_devices(site, admin, nodes)
        await asyncio.gather(*(node.die() for node in nodes))
        for node in nodes:
            await site.heard(node.name, "up", "suspected", "down")
        await eventually(
            lambda: all(site.listener.alerts(node.name, "host.unfenced") for node in nodes),
            "a person is called for each",
        )
        assert "No host is left" in (await incident_of(admin, "kvm0"))["detail"]
        assert not site.listener.of(HostFenced)
        # One of them is back: the other has some time to follow, and does not.
        nodes[0].live()

        async def given_time() -> bool:
            return "time to come back" in (await incident_of(admin, "kvm1"))["detail"]

        await eventually(given_time, "it is given time")
        assert (await fenced(site, "kvm1")).by is FencedBy.DEVICE
        assert site.agents.switched("kvm0") == []


async def test_after_a_short_silence_of_all_hosts_none_is_switched_off(site: Any) -> None:
    """The managers' network is back before any host counts as down."""
    nodes = [site.node(f"kvm{number}") for number in range(2)]
    async with site.copy() as parts, site.client(parts, Role.ADMIN) as admin:
        await live_with_devices(site, admin, nodes)
        await asyncio.gather(*(node.die() for node in nodes))
        for node in nodes:
            await site.heard(node.name, "up", "suspected")
        nodes[0].live()
        await site.heard("kvm0", "up", "suspected", "up")

        async def silent_for_long() -> bool:
            host = (await admin.get("/api/v1/ha/hosts/kvm1")).json()
            at = datetime.fromisoformat(host["last_beat_at"])
            return datetime.now(UTC) - at > timedelta(seconds=3 * DOWN_S)

        await eventually(silent_for_long, "the other one takes its time")
        nodes[1].live()
        await site.heard("kvm1", "up", "suspected", "up")
        assert site.agents.switched("kvm0") == site.agents.switched("kvm1") == []


async def test_a_host_that_dies_again_has_an_incident_whatever_the_clocks_say(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        await live_with_devices(site, admin, [node])
        await node.die()
        first = await fenced(site, "kvm1")
        # Who fenced it had a clock that was ahead.
        await site.sql("update incidents set fenced_at = fenced_at + interval '1 hour'")
        node.reboot()
        await site.heard("kvm1", "up", "suspected", "down", "recovered")
        await node.die()
        await eventually(
            lambda: len({fact.incident_id for fact in site.listener.of(HostFenced)}) == 2,
            "it is fenced once more",
        )
        assert (await incident_of(admin, "kvm1"))["id"] != str(first.incident_id)


async def test_while_disarmed_nothing_is_fenced(site: Any) -> None:
    node = site.node("kvm1")
    async with administering(site) as admin:
        node.live()
        await site.heard("kvm1", "up")
        await put(admin, "kvm1", site.agents.device("1"))
        said = (await admin.post("/api/v1/ha/disarm", json={"reason": "a new switch"})).json()
        assert (said["armed"], said["switched_by"], said["reason"]) == (
            False,
            "root",
            "a new switch",
        )
        await node.die()
        await site.heard("kvm1", "up", "suspected", "down")

        async def told() -> bool:
            return "disarmed" in (await incident_of(admin, "kvm1"))["detail"]

        await eventually(told, "it says why nothing is done")
        assert site.agents.switched("1") == []
        assert (await admin.post("/api/v1/ha/arm")).json()["armed"] is True
        assert (await admin.get("/api/v1/ha/leader")).json()["armed"] is True
        assert (await fenced(site, "kvm1")).by is FencedBy.DEVICE


async def test_a_host_that_answers_elsewhere_is_not_down(site: Any) -> None:
    node, dead = site.node("kvm1"), site.node("kvm2")
    with socket.socket() as machine:
        machine.bind(("127.0.0.1", 0))
        machine.listen()
        node.address = "127.0.0.1"
        site.extra = {
            "probe_ports": (machine.getsockname()[1],),
            "agent_silent_after_s": 4.0,
        }
        async with administering(site) as admin:
            node.live()
            dead.live()
            await site.heard("kvm1", "up")
            await site.heard("kvm2", "up")
            await put(admin, "kvm1", site.agents.device("1"))
            await asyncio.gather(node.die(), dead.die())
            await site.heard("kvm2", "up", "suspected", "down")
            want = [("alert.raised", "host.agent-silent")]
            await eventually(lambda: site.listener.alerts("kvm1") == want, "a person is told")
            # Told again whenever the reason changes, which it may on a busy machine.
            first, *then = site.listener.names("kvm1")
            assert (first, set(then)) == ("host.up", {"host.suspected"})
            shown = (await admin.get("/api/v1/ha/hosts/kvm1")).json()
            assert "answers" in shown["reason"]
            # Then the machine dies, too.
            machine.close()
    assert site.agents.switched("1") == []


async def test_a_copy_that_is_killed_while_it_fences_is_followed_by_another(site: Any) -> None:
    node = site.node("kvm1")
    node.live()
    leader = await site.process()
    await site.heard("kvm1", "up")
    async with administering(site) as admin:
        await put(admin, "kvm1", site.agents.device("1", "a"), site.agents.device("1", "b"))
        site.agents.behave("a", "hangs")
        site.agents.behave("b", "hangs")
        await node.die()
        await eventually(lambda: site.agents.switched("1"), "the first copy fences")
        leader.kill()
        await leader.wait()
        site.agents.behave("a", "works")
        fact = await fenced(site, "kvm1")
        assert fact.by is FencedBy.DEVICE
        attempts = (await incident_of(admin, "kvm1"))["attempts"]
        assert attempts[-1]["fenced"]
        assert all(attempt["ended_at"] is not None for attempt in attempts)
    assert len(site.listener.of(HostFenced)) == 1
    changes = [change.state for change in site.listener.of(IncidentChanged)]
    assert changes.count(IncidentState.RECOVERING) == 1
