"""Hosts die, are cut off and freeze: every desktop runs exactly once or is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.e2e.site import Api, Lab, NewScreen, pool_for_a_while, users_for_a_while, wait_until
from tests.e2e.stand import FAILED_S, WHOLE_S, Stand, lab_up

DESKTOPS = 3


@pytest.fixture(scope="module")
def stand(lab: Lab, admin: Api) -> Iterator[Stand]:
    """Three desktops, on three nodes."""
    with users_for_a_while(admin, lambda name, password: Api(lab.url, name, password)) as new_user:
        users = [new_user() for _ in range(DESKTOPS)]
        sizes = {"min": DESKTOPS, "max": DESKTOPS, "spare": 0}
        with pool_for_a_while(
            lab, admin, users, name="failing", pending_timeout_s=3600, **sizes
        ) as pool:
            made = Stand(lab, admin, pool, users)
            wait_until(lambda: len(made.desktops()) == DESKTOPS, "they are made", 60)
            wait_until(made.is_whole, "all of them run", WHOLE_S)
            yield made


@pytest.fixture(autouse=True)
def whole_before_and_after(stand: Stand) -> Iterator[None]:
    """Each test breaks something and leaves nothing broken."""
    yield
    stand.mend()


@pytest.fixture
def without_devices(lab: Lab) -> Iterator[None]:
    """No host has a fence device: its own lease is all there is."""
    lab_up("--no-fencing")
    yield
    lab_up("--fencing")


def test_a_host_dies_and_its_user_gets_the_desktop_back_with_what_was_saved(
    stand: Stand, new_screen: NewScreen
) -> None:
    ann = stand.users[0]
    screen = new_screen()
    screen.view(ann.vv(stand.pool))
    screen.shows("ROOST DESKTOP")
    screen.mark("saved")
    [session] = [one for one in ann.items("/sessions") if one["state"] != "ended"]
    desktop = session["desktop"]["id"]
    node = str(stand.desktops()[desktop]["host"])
    lost, before, known = stand.on(node), stand.runs(), len(stand.incidents(node))

    stand.lab.node(node, "kill")
    incident = stand.incident(node, known, state="resolved")
    assert (incident["resolution"], incident["fenced_by"]) == ("recovered", "device")
    assert {one["id"] for one in incident["desktops"]} >= lost
    assert {one["fate"] for one in incident["desktops"] if one["id"] in lost} == {"back"}
    assert incident["noticed_at"] <= incident["fenced_at"] <= incident["all_back_at"]
    wait_until(stand.each_runs_once, "each runs once", FAILED_S)
    after = stand.runs()
    assert {key for key in before if before[key] != after[key]} == lost, "the others ran on"

    screen.view(ann.vv(stand.pool))
    text = screen.shows("mark saved", "boots 2", within=120)
    assert "clean" not in text
    [again] = [one for one in ann.items("/sessions") if one["state"] != "ended"]
    assert again["id"] == session["id"]


@pytest.mark.chaos
def test_two_hosts_die_at_once(stand: Stand) -> None:
    dead = stand.lab.nodes[:2]
    known = {node: len(stand.incidents(node)) for node in dead}
    for node in dead:
        stand.lab.node(node, "kill")
    for node in dead:
        stand.incident(node, known[node], state="resolved", resolution="recovered")
    wait_until(stand.each_runs_once, "each runs once, on the one that is left", FAILED_S)
    assert {one["host"] for one in stand.desktops().values()} == {stand.lab.nodes[2]}


def open_alerts(stand: Stand) -> list[dict[str, Any]]:
    return stand.admin.items("/ha/alerts", open="true")


def awaiting(stand: Stand, node: str, known: int) -> dict[str, Any]:
    """The incident that asks for a person; nothing of the node runs elsewhere."""
    lost = stand.on(node)
    incident = stand.incident(node, known, state="awaiting-confirmation")
    assert all(not attempt["fenced"] for attempt in incident["attempts"])
    assert {stand.desktops()[key]["state"] for key in lost} == {"unknown"}
    assert "host.unfenced" in [one["alert"] for one in open_alerts(stand)]
    return incident


@pytest.mark.chaos
@pytest.mark.parametrize("device", ["fails", "hangs"])
def test_a_device_that_does_not_do_leaves_it_to_a_person(stand: Stand, device: str) -> None:
    node = stand.busiest()
    known = len(stand.incidents(node))
    stand.lab.fence_device(node, device)
    stand.lab.node(node, "kill")
    incident = awaiting(stand, node, known)
    path = f"/ha/incidents/{incident['id']}/confirm"
    confirmed = stand.admin.call("POST", path, 200).json()
    assert confirmed["confirmed_by"] == stand.admin.user
    incident = stand.incident(node, known, state="resolved", resolution="recovered")
    assert incident["fenced_by"] == "human"
    wait_until(stand.each_runs_once, "each runs once", FAILED_S)


@pytest.mark.chaos
def test_a_device_that_says_done_and_does_nothing_is_not_believed(stand: Stand) -> None:
    node = stand.busiest()
    known = len(stand.incidents(node))
    stand.lab.fence_device(node, "idles")
    stand.lab.node(node, "cut")
    incident = awaiting(stand, node, known)
    assert "did not switch off" in incident["attempts"][-1]["outcome"]
    assert stand.domains_on(node), "it lives, with all that it had"
    stand.lab.fence_device(node, "works")
    incident = stand.incident(node, known, state="resolved", resolution="recovered")
    assert incident["fenced_by"] == "device", "it is tried again"
    wait_until(stand.each_runs_once, "each runs once", FAILED_S)


@pytest.mark.chaos
def test_a_device_that_lies_is_not_believed(stand: Stand) -> None:
    """It says off twice; the host is still heard."""
    node, before = stand.busiest(), stand.runs()
    known = len(stand.incidents(node))
    stand.lab.fence_device(node, "lies")
    stand.admin.call("POST", f"/ha/fencing/{node}/fence", 200)
    incident = stand.incident(node, known, state="resolved")
    assert (incident["resolution"], incident["fenced_by"]) == ("false-alarm", None)
    assert "but it beats" in incident["attempts"][-1]["outcome"]
    assert stand.runs() == before, "nothing was restarted"
    assert stand.each_runs_once()


@pytest.mark.chaos
def test_a_living_host_cannot_be_declared_dead(stand: Stand, without_devices: None) -> None:
    node = stand.busiest()
    known, before = len(stand.incidents(node)), stand.runs()
    stand.lab.node(node, "cut")
    incident = stand.incident(node, known)
    stand.lab.node(node, "heal")
    resolved = stand.incident(node, known, state="resolved")
    assert resolved["resolution"] == "false-alarm", "it was back before its lease ended"
    stand.admin.call("POST", f"/ha/incidents/{incident['id']}/confirm", 409)
    wait_until(stand.is_whole, "all is whole", WHOLE_S)
    assert stand.runs() == before, "nobody noticed anything"


def armed(lab: Lab, node: str) -> bool:
    """Whether the node's guard has something to do when its lease ends."""
    lease = json.loads(lab.on_node(node, "cat", "/run/roost/lease.json"))
    return lease["deadline_boottime"] is not None


@pytest.mark.chaos
def test_a_host_that_is_cut_off_for_longer_than_its_lease_keeps_nothing(
    stand: Stand, without_devices: None
) -> None:
    node = stand.busiest()
    lost, known = stand.on(node), len(stand.incidents(node))
    wait_until(lambda: armed(stand.lab, node), "its lease is armed", 60)
    stand.lab.node(node, "cut")
    stand.incident(node, known, fenced_by="lease")
    assert not lost & stand.domains_on(node), "it has stopped them itself"
    stand.incident(node, known, state="resolved", resolution="recovered")
    assert stand.none_runs_twice()
    stand.lab.node(node, "heal")
    wait_until(stand.is_whole, "it is back, without what is no longer its own", WHOLE_S)


def heard_at(stand: Stand, node: str) -> datetime:
    """When the managers last heard a node's agent."""
    return datetime.fromisoformat(stand.admin.get(f"/ha/hosts/{node}")["last_beat_at"])


def unheard(stand: Stand, node: str, seconds: float) -> None:
    """Wait until they have not heard it for so long."""
    silence = timedelta(seconds=seconds)
    wait_until(lambda: datetime.now(UTC) - heard_at(stand, node) > silence, f"{node} is silent", 90)


def heard_again(stand: Stand, *nodes: str) -> None:
    """Wait until they hear all of these from now on."""
    now = datetime.now(UTC)
    wait_until(lambda: all(heard_at(stand, node) > now for node in nodes), "all are heard", 60)


def frozen_agent(stand: Stand, node: str) -> None:
    stand.lab.node(node, "freeze-agent")
    try:
        unheard(stand, node, 15)  # three times as long as until a host is called down
    finally:
        stand.lab.node(node, "thaw-agent")


def frozen_libvirtd(stand: Stand, node: str) -> None:
    def told() -> bool:
        alerts = [(one["alert"], one["object"]) for one in open_alerts(stand)]
        return ("host.libvirt-down", node) in alerts

    stand.lab.node(node, "freeze-libvirtd")
    try:
        wait_until(told, "it is told that libvirt does not answer", 60)
    finally:
        stand.lab.node(node, "thaw-libvirtd")


def killed_agent(stand: Stand, node: str) -> None:
    stand.lab.crash(f"{node}-agent")
    heard_again(stand, node)


def frozen_bus(stand: Stand, node: str) -> None:
    stand.lab.service("rabbitmq", "freeze")
    try:
        unheard(stand, node, 30)  # shorter than any lease
    finally:
        stand.lab.service("rabbitmq", "thaw")
    heard_again(stand, *stand.lab.nodes)


@pytest.mark.chaos
@pytest.mark.parametrize("trouble", [frozen_agent, frozen_libvirtd, killed_agent, frozen_bus])
def test_trouble_that_is_no_dead_host_fences_nobody(
    stand: Stand, trouble: Callable[[Stand, str], None]
) -> None:
    before = stand.runs()
    known = {node: len(stand.incidents(node)) for node in stand.lab.nodes}
    trouble(stand, stand.busiest())
    wait_until(stand.is_whole, "all is whole", WHOLE_S)
    assert stand.runs() == before
    for node in stand.lab.nodes:
        new = stand.incidents(node)[: len(stand.incidents(node)) - known[node]]
        assert all(one["fenced_at"] is None for one in new), new


@pytest.mark.chaos
def test_what_does_not_fit_waits_and_is_told(stand: Stand) -> None:
    """Every desktop so large that a node carries one of them."""
    node, *others = stand.lab.nodes
    for other in others[:1]:
        stand.admin.call("POST", f"/hosts/{other}/maintenance", 200, 202)
    try:
        wait_until(lambda: not stand.on(others[0]), "one node is empty", WHOLE_S)
        size = min(stand.admin.get(f"/hosts/{one}")["memory_mib"] for one in stand.lab.nodes)
        spec = {"vcpus": 1, "memory_mib": (size - 512) * 2 // 3, "monitors": 1}
        with pool_for_a_while(stand.lab, stand.admin, [], min=2, max=2, spare=2, spec=spec) as pool:
            large = Stand(stand.lab, stand.admin, pool, [])
            wait_until(
                lambda: len(large.desktops()) == 2 and large.each_runs_once(), "both run", WHOLE_S
            )
            victim = node if large.on(node) else others[1]
            [lost] = large.on(victim)
            known = len(stand.incidents(victim))
            stand.lab.node(victim, "kill")
            stand.incident(victim, known, state="recovering")
            waiting = wait_until(
                lambda: large.desktops()[lost]["problem"], "it is told why", FAILED_S
            )
            assert waiting["code"] == "placement.no-capacity"
            assert large.none_runs_twice()
            stand.lab.node(victim, "start")
            wait_until(large.each_runs_once, "it runs when there is room", WHOLE_S)
            stand.incident(victim, known, state="resolved", resolution="recovered")
    finally:
        stand.admin.call("POST", f"/hosts/{others[0]}/activate", 200, 202)
