"""Parts die while desktops are made and launched; everything converges by itself."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.e2e.site import (
    Api,
    Lab,
    NewPool,
    NewUser,
    launch_until_ready,
    wait_until,
    word,
)

from roost_lab.guest import IMAGE

DESKTOPS = 20


def domains_of(lab: Lab, admin: Api) -> Counter[str]:
    """How often each running desktop runs, by what the nodes' libvirt itself says."""
    running: Counter[str] = Counter()
    for node in lab.nodes:
        address = admin.get(f"/hosts/{node}")["address"]
        listed = subprocess.run(
            ["virsh", "-c", f"qemu+tcp://{address}/system", "list", "--uuid"],
            capture_output=True,
            text=True,
            check=True,
        )
        running.update(listed.stdout.split())
    return running


def converged(lab: Lab, admin: Api, pool: str) -> bool:
    """Whether inventory, the nodes and the sessions tell one story about the pool's desktops."""
    desktops = admin.items("/desktops", pool=pool)
    running = {d["id"]: d for d in desktops if d["state"] == "running"}
    if len(running) != len(desktops):
        return False
    on_nodes = domains_of(lab, admin)
    if any(on_nodes[identity] != 1 for identity in running):
        return False
    sessions = [s for s in admin.items("/sessions") if s["state"] != "ended"]
    return all(s["desktop"]["id"] in running for s in sessions if s["pool"] == pool)


def kill(lab: Lab, programs: list[str], during: list[Future[Any]]) -> None:
    """SIGKILL, as a crash; wait only until they run again, not until they work."""
    for program in programs:
        wait_until(partial(lab.runs, program), f"{program} runs", 60)
    assert not all(launch.done() for launch in during), "in the middle of it"
    for program in programs:
        lab.crash(program)
    for program in programs:
        wait_until(partial(lab.runs, program), f"{program} runs again", 60)


def broken(lab: Lab) -> list[list[str]]:
    """Everything that is broken, in order; of a service all copies at once."""
    node = lab.nodes[0]
    services = ["broker", "inventory", "imaging", "ha-monitor"]
    others = ["", *(f"@{number}" for number in range(2, lab.copies + 1))]
    return [
        *([f"{service}{copy}" for copy in others] for service in services),
        [f"{node}-agent"],
        ["rabbitmq"],
        ["postgres"],
        [f"{node}-libvirtd"],
    ]


@contextmanager
def importing(admin: Api) -> Iterator[str]:
    """A job that has only begun: the import of a template, which goes at the end."""
    name = f"import-{word()}"
    body = {"name": name, "os": "linux", "source": {"path": IMAGE}}
    job: str = admin.call("POST", "/templates", 202, json=body).json()["job_id"]
    yield job
    admin.call("DELETE", f"/templates/{name}", 202, 204)


def test_everything_is_killed_once_while_twenty_desktops_are_made_and_launched(
    lab: Lab, admin: Api, new_user: NewUser, new_pool: NewPool
) -> None:
    users = [new_user() for _ in range(DESKTOPS)]
    # None is spare: every launch takes until a desktop has been made and booted.
    with new_pool(users, max=DESKTOPS, spare=0, pending_timeout_s=3600) as pool:
        with ThreadPoolExecutor(DESKTOPS) as launchers, importing(admin) as job:
            half, breaks = DESKTOPS // 2, broken(lab)
            launches = [launchers.submit(launch_until_ready, user, pool) for user in users[:half]]
            for number, programs in enumerate(breaks):
                newcomers = users[half + number :: len(breaks)]
                launches += [launchers.submit(launch_until_ready, user, pool) for user in newcomers]
                kill(lab, programs, launches)
            ready = [launch.result(timeout=400) for launch in launches]
            wait_until(lambda: admin.get(f"/jobs/{job}")["state"] == "done", "it is imported", 300)
        assert len({one["desktop"]["id"] for one in ready}) == DESKTOPS, "no desktop twice"
        wait_until(lambda: converged(lab, admin, pool), "one story everywhere", 180)
        open_sessions = [
            s for s in admin.items("/sessions") if s["state"] != "ended" and s["pool"] == pool
        ]
        assert len({s["desktop"]["id"] for s in open_sessions}) == len(open_sessions) == DESKTOPS
        unfinished = [j for j in admin.items("/jobs") if j["state"] in ("queued", "running")]
        assert unfinished == []
        wait_until(
            lambda: {host["health"] for host in admin.items("/ha/hosts")} == {"up"},
            "every host is up",
            60,
        )
