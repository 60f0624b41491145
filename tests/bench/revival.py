"""From a real host's death to what its guests say elsewhere: desktops of the lab.

The bare work beside it is the boot of the same guests, when they were made.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from time import monotonic, perf_counter, sleep
from typing import Any, Final, TypeVar

import libvirt
from tests.bench.creation import order, ordered
from tests.bench.launch import Lab
from tests.bench.report import Figure

ROOT = Path(__file__).parents[2]
SIZES: Final = (1, 10)
"""Desktops on the host that dies; fifty emulated guests at once are beyond one machine."""
WITHIN_S: Final = 300.0
"""For anything; ten guests boot at once, under emulation, on whatever processors there are."""
UP: Final = b"roost-guest: up"
"""What the lab's guest says on its serial line when it is there (``deploy/lab/guest``)."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Boot:
    """When a guest was seen to run, said its first line, and said that it is up: this process's
    own clock, in seconds."""

    started: float
    first: float
    up: float


def measure(lab: Lab) -> list[Figure]:
    """Kills a node under desktops that are up, and starts it again afterwards."""
    # It would print that a serial line is not there yet, each time it is asked for.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return [figure for size in SIZES for figure in _failure(lab, size)]


def _failure(lab: Lab, size: int) -> list[Figure]:
    names = [str(one["name"]) for one in _get(lab, "/hosts")["items"] if one["state"] == "up"]
    host, others = names[0], names[1:]
    with ExitStack() as ending:
        ending.enter_context(_no_other_desktops(lab))
        with _in_maintenance(lab, others):
            ids = ending.enter_context(ordered(lab, order(lab), size, power="on"))
            made = _boots(lab, [host], ids)
        ending.callback(_revive, lab, host)
        died, killed = datetime.now(UTC), perf_counter()
        _node(host, "kill")
        again = _boots(lab, others, ids)
        incident = _until(lambda: _resolved(lab, host, died))
    of = f"{size} real desktop{'s' * (size > 1)} on a dead host"
    noticed, fenced = (
        (datetime.fromisoformat(incident[at]) - died).total_seconds()
        for at in ("noticed_at", "fenced_at")
    )
    boot = min(one.started for one in made)
    started = max(one.started for one in again) - killed
    first = [min(one.first for one in boots) for boots in (again, made)]
    last = [max(one.first for one in boots) for boots in (again, made)]
    up = [max(one.up for one in boots) for boots in (again, made)]
    return [
        Figure(f"{of}: noticed", "s", noticed, wanted="at most 5"),
        Figure(f"{of}: fenced", "s", fenced),
        Figure(f"{of}: all are started elsewhere", "s", started),
        Figure(f"{of}: first line of the first", "s", first[0] - killed, first[1] - boot),
        Figure(f"{of}: first line of the last", "s", last[0] - killed, last[1] - boot),
        Figure(f"{of}: all guests are up", "s", up[0] - killed, up[1] - boot),
    ]


# --- where the desktops are ---------------------------------------------------------------------


@contextmanager
def _no_other_desktops(lab: Lab) -> Iterator[None]:
    """The demo pool keeps none ready: they would be carried to the host that is to die."""
    path = f"/api/v1/pools/{lab.pool}"
    pool = lab.admin.get(path).raise_for_status().json()
    lab.admin.patch(path, json={"min": 0, "spare": 0}).raise_for_status()
    lab.log_off()
    try:
        for desktop in _get(lab, "/desktops")["items"]:
            lab.admin.delete(f"/api/v1/desktops/{desktop['id']}").raise_for_status()
        _until(lambda: _get(lab, "/desktops")["total"] == 0 or None)
        yield
    finally:
        kept = {"min": pool["min"], "spare": pool["spare"]}
        lab.admin.patch(path, json=kept).raise_for_status()


@contextmanager
def _in_maintenance(lab: Lab, hosts: Sequence[str]) -> Iterator[None]:
    try:
        for host in hosts:
            lab.admin.post(f"/api/v1/hosts/{host}/maintenance").raise_for_status()
        yield
    finally:
        for host in hosts:
            lab.admin.post(f"/api/v1/hosts/{host}/activate").raise_for_status()


def _resolved(lab: Lab, host: str, died: datetime) -> dict[str, Any] | None:
    """The incident of this death, when it is over."""
    for one in _get(lab, "/ha/incidents")["items"]:
        late = datetime.fromisoformat(one["noticed_at"]) >= died
        if one["node"] == host and late and one["state"] == "resolved":
            found: dict[str, Any] = one
            return found
    return None


def _revive(lab: Lab, host: str) -> None:
    _node(host, "start")
    _until(lambda: _get(lab, f"/hosts/{host}")["state"] == "up" or None)


# --- what the guests say ------------------------------------------------------------------------


def _boots(lab: Lab, hosts: Sequence[str], ids: Sequence[str]) -> list[_Boot]:
    """Of all these desktops, wherever on ``hosts`` they start; returns when all are up."""
    with ThreadPoolExecutor(len(ids)) as threads:
        return list(threads.map(lambda desktop: _boot(lab, hosts, desktop), ids))


def _boot(lab: Lab, hosts: Sequence[str], desktop: str) -> _Boot:
    connections = [lab.libvirt_of(host) for host in hosts]
    try:
        domain = _until(lambda: _running(connections, desktop))
        started = perf_counter()
        return _Boot(started, *_listen(domain))
    finally:
        for connection in connections:
            connection.close()


def _running(connections: Sequence[libvirt.virConnect], desktop: str) -> libvirt.virDomain | None:
    for connection in connections:
        try:
            domain = connection.lookupByUUIDString(desktop)
            if domain.isActive():
                return domain
        except libvirt.libvirtError:
            continue
    return None


def _listen(domain: libvirt.virDomain) -> tuple[float, float]:
    """When the first line came over the serial line, and when the guest said that it is up."""
    stream = _until(lambda: _console(domain))
    late = Timer(WITHIN_S, stream.abort)
    late.start()
    said, first = b"", 0.0
    try:
        while UP not in said:
            if not (more := stream.recv(4096)):
                raise EOFError(f"{domain.name()} ended before it was up: {said[-500:]!r}")
            said += more
            if not first and (b"\n" in said or UP in said):
                first = perf_counter()
        return first, perf_counter()
    finally:
        late.cancel()
        stream.abort()


def _console(domain: libvirt.virDomain) -> libvirt.virStream | None:
    """None while QEMU has not made its serial line yet."""
    stream = domain.connect().newStream(0)
    try:
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    except libvirt.libvirtError:
        return None
    return stream


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
