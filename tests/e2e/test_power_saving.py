"""A cluster that saves power: hosts that nobody needs are switched off, and on in time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.site import Api, Lab, NewPool, NewUser, pool_for_a_while, wait_until
from tests.e2e.stand import WHOLE_S, Stand

DECIDED_S = 300.0
"""A few of the node's samples (every 30 s), a move under emulation, and a few passes."""
EAGER = {
    "policy": "power_saving",
    "cpu_high_percent": 99,
    "cpu_low_percent": 49,
    "memory_high_percent": 99,
    "memory_low_percent": 89,
    "duration_s": 30,
    "reserve_hosts": 0,
    "reserve_percent": 0,
    "rest_s": 0,
    "awake_s": 0,
}
"""Every host that can be done without is."""


@pytest.fixture
def stand(lab: Lab, admin: Api, new_user: NewUser, new_pool: NewPool) -> Iterator[Stand]:
    """Two desktops in use, and a cluster that is as it was afterwards."""
    users = [new_user(), new_user()]
    before = admin.get("/clusters/default")["scheduling"]
    with new_pool(users, min=2, max=2, spare=0, pending_timeout_s=3600) as pool:
        made = Stand(lab, admin, pool, users)
        wait_until(lambda: len(made.desktops()) == 2 and made.is_whole(), "they run", WHOLE_S)
        for user in users:
            user.launch(pool)
        try:
            yield made
        finally:
            schedule(admin, before)
            made.mend()


def schedule(admin: Api, scheduling: dict[str, Any]) -> None:
    admin.call("PATCH", "/clusters/default", 200, json={"scheduling": scheduling})


def off(stand: Stand) -> set[str]:
    """The hosts that are said to be off on purpose."""
    return {one["name"] for one in stand.admin.items("/hosts") if one["state"] == "off"}


def has_power(lab: Lab, node: str) -> bool:
    try:
        lab.on_node(node, "true")
    except subprocess.CalledProcessError:
        return False
    return True


@pytest.mark.chaos
def test_hosts_that_are_not_needed_are_switched_off_and_woken_for_desktops(stand: Stand) -> None:
    admin, lab = stand.admin, stand.lab
    before = stand.runs()
    told = len(admin.items("/ha/incidents"))
    planned = admin.call(
        "POST", "/clusters/default/dry-run", 200, json={"scheduling": {**EAGER, "duration_s": 0}}
    ).json()
    assert off(stand) == set(), "a dry run does nothing"
    assert planned["actions"] or planned["notes"]

    schedule(admin, EAGER)
    asleep = wait_until(
        lambda: found if len(found := off(stand)) == len(lab.nodes) - 1 else None,
        "one host carries all of it",
        DECIDED_S,
    )
    wait_until(lambda: not any(has_power(lab, node) for node in asleep), "they are dark", 60)
    assert stand.each_runs_once()
    assert stand.runs() == before, "nobody noticed anything"
    assert len(admin.items("/ha/incidents")) == told, "who is off on purpose is not dead"

    # Desktops of which a host carries one: all hosts are needed.
    size = min(admin.get(f"/hosts/{one}")["memory_mib"] for one in lab.nodes)
    count = len(lab.nodes)
    spec = {"vcpus": 1, "memory_mib": (size - 512) * 2 // 3, "monitors": 1}
    with pool_for_a_while(lab, admin, [], min=count, max=count, spare=0, spec=spec) as pool:
        large = Stand(lab, admin, pool, [])
        wait_until(
            lambda: len(large.desktops()) == count and large.each_runs_once(),
            "they were woken",
            DECIDED_S,
        )
        assert off(stand) == set()

    schedule(admin, {"policy": "none"})
    wait_until(stand.is_whole, "all hosts are up", WHOLE_S)
    assert stand.runs() == before
