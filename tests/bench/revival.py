"""From a real host's death to what its guest says elsewhere: one desktop of the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any, Final, TypeVar

import libvirt
from tests.bench.launch import Lab
from tests.bench.report import Figure

ROOT = Path(__file__).parents[2]
WITHIN_S: Final = 120.0
UP: Final = b"roost-guest: up"
"""What the lab's guest says on its serial line when it is there (``deploy/lab/guest``)."""

T = TypeVar("T")


def measure(lab: Lab) -> list[Figure]:
    """Kills the node under the demo user's desktop, and starts it again afterwards."""
    answer = lab.user.post("/api/v1/launch", json={"pool": lab.pool}, headers={"Prefer": "wait=50"})
    ready = answer.raise_for_status().json()
    desktop = ready["desktop"]["id"]
    host = str(_get(lab, f"/desktops/{desktop}")["host"])
    names = [one["name"] for one in _get(lab, "/hosts")["items"] if one["state"] == "up"]
    others = [lab.libvirt_of(name) for name in names if name != host]
    try:
        _node(host, "kill")
        killed = perf_counter()
        domain = _until(lambda: _running(others, desktop))
        started = perf_counter()
        first, up = _listen(domain)
    finally:
        for connection in others:
            connection.close()
        _node(host, "start")
        _until(lambda: _get(lab, f"/hosts/{host}")["state"] == "up" or None)
        lab.admin.delete(f"/api/v1/sessions/{ready['session_id']}")
    of = "a real desktop on a dead host"
    return [
        Figure(f"{of}: its guest is started elsewhere", "s", started - killed),
        Figure(f"{of}: its guest's first line of output", "s", first - killed),
        Figure(f"{of}: its guest is up", "s", up - killed),
    ]


def _listen(domain: libvirt.virDomain) -> tuple[float, float]:
    """When the first line came over the serial line, and when the guest said that it is up."""
    stream = _until(lambda: _console(domain))
    said, first = b"", 0.0
    try:
        while UP not in said:
            said += stream.recv(4096)
            if not first and b"\n" in said:
                first = perf_counter()
        return first, perf_counter()
    finally:
        stream.abort()


def _console(domain: libvirt.virDomain) -> libvirt.virStream | None:
    """None while QEMU has not made its serial line yet."""
    stream = domain.connect().newStream(0)
    try:
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    except libvirt.libvirtError:
        return None
    return stream


def _running(connections: list[libvirt.virConnect], desktop: str) -> libvirt.virDomain | None:
    for connection in connections:
        try:
            domain = connection.lookupByUUIDString(desktop)
            if domain.isActive():
                return domain
        except libvirt.libvirtError:
            continue
    return None


def _until(question: Callable[[], T | None]) -> T:
    deadline = monotonic() + WITHIN_S
    while (answer := question()) is None:
        if monotonic() > deadline:
            raise TimeoutError(f"not within {WITHIN_S:g} s")
        sleep(0.05)
    return answer


def _get(lab: Lab, path: str) -> dict[str, Any]:
    found: dict[str, Any] = lab.admin.get(f"/api/v1{path}").raise_for_status().json()
    return found


def _node(name: str, verb: str) -> None:
    command: list[str | Path] = [ROOT / "deploy" / "lab" / "node", name, verb]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
