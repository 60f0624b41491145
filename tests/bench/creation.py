"""Desktops from a template against the bare work: their disks alone, and until a guest runs."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any, Final
from uuid import uuid4

import libvirt
from lxml import etree
from tests.bench.launch import ROOT, Lab
from tests.bench.report import Figure, percentile

from roost_imaging.qemu_img import overlay_argv

ROUNDS: Final = 5
"""Of ours and of the bare work, in turn; few, for an emulated guest costs processor."""
DISKS: Final = 20
"""A round's disks, asked for at once."""
POLL_S: Final = 0.02
"""Between two questions to inventory: as much may be too much in a figure of ours."""

_DEFINITION: Final = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_WITH_STATE: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_TPM
)


def measure(lab: Lab) -> list[Figure]:
    """Medians, in seconds a desktop.

    A disk ends with the state ``stopped``, for which no node holds a definition (ADR 1), and so is
    beside ``qemu-img create`` alone. A guest ends with ``running``, and so is beside
    ``qemu-img create``, ``defineXML`` and ``create`` on the node that ran ours.
    """
    wanted = order(lab)
    template = _template(wanted["template_id"])
    domain = template.file.parents[2]
    with tempfile.TemporaryDirectory(dir=domain, prefix="bench-") as name:
        folder = Path(name)
        disks = [_disks(lab, wanted, template, folder) for _ in range(ROUNDS)]
        guests = [_guest(lab, wanted, template, folder) for _ in range(ROUNDS)]
    return [
        _figure("desktop's disk from template", disks, wanted="at most 0.2"),
        _figure("desktop from template until its guest runs", guests),
    ]


def _figure(name: str, rounds: list[tuple[float, float]], wanted: str = "") -> Figure:
    ours, bare = zip(*rounds, strict=True)
    return Figure(name, "s", percentile(ours, 50), percentile(bare, 50), wanted)


def _disks(
    lab: Lab, wanted: dict[str, Any], template: _Template, folder: Path
) -> tuple[float, float]:
    """One round: ours, and bare."""
    with _made(lab, wanted, DISKS, power="off", state="stopped") as (ours, _):
        pass
    files = [folder / f"{number}.qcow2" for number in range(DISKS)]
    started = perf_counter()
    for file in files:
        template.overlay(file)
    bare = perf_counter() - started
    for file in files:
        file.unlink()
    return ours / DISKS, bare / DISKS


def _guest(
    lab: Lab, wanted: dict[str, Any], template: _Template, folder: Path
) -> tuple[float, float]:
    """One round: ours, and bare with the definition that ours had, on the node where it was."""
    with _made(lab, wanted, 1, power="on", state="running") as (ours, [key]):
        desktop = lab.admin.get(f"/api/v1/desktops/{key}").raise_for_status().json()
        connection = lab.libvirt_of(desktop["host"])
        model = connection.lookupByUUIDString(desktop["id"]).XMLDesc(_DEFINITION)
    with closing(connection):
        return ours, _bare_guest(connection, template, model, folder / "guest.qcow2")


# --- ours -------------------------------------------------------------------------------------


def order(lab: Lab) -> dict[str, Any]:
    """The pool after which desktops are made: its template, the newest version, and its spec."""
    pool: dict[str, Any] = lab.admin.get(f"/api/v1/pools/{lab.pool}").raise_for_status().json()
    return pool


@contextmanager
def ordered(
    lab: Lab, wanted: dict[str, Any], count: int, *, power: str, prefix: str = ""
) -> Iterator[list[str]]:
    """Ids of desktops that are asked for, after the pool ``wanted``, and gone again afterwards."""
    prefix = prefix or _prefix()
    desktop = {"template": wanted["template"], "spec": wanted["spec"], "power": power}
    ids: list[str] = []
    try:
        for number in range(count):
            body = {"name": f"{prefix}-{number}", **desktop}
            answer = lab.admin.post("/api/v1/desktops", json=body)
            ids.append(answer.raise_for_status().json()["id"])
        yield ids
    finally:
        for desktop_id in ids:
            lab.admin.delete(f"/api/v1/desktops/{desktop_id}").raise_for_status()
        _wait(lambda: _number(lab, prefix) == 0, f"{len(ids)} gone")


@contextmanager
def _made(
    lab: Lab, wanted: dict[str, Any], count: int, *, power: str, state: str
) -> Iterator[tuple[float, list[str]]]:
    """Seconds from the first request until inventory says ``state`` of all; and their ids."""
    prefix, started = _prefix(), perf_counter()
    with ordered(lab, wanted, count, power=power, prefix=prefix) as ids:
        _wait(lambda: _number(lab, prefix, state=state) == count, f"{count} {state}")
        yield perf_counter() - started, ids


def _prefix() -> str:
    return f"bench-{uuid4().hex[:8]}"


def _number(lab: Lab, prefix: str, **which: str) -> int:
    """How many desktops there are with names that begin so."""
    query = {"name": f"{prefix}-*", "limit": "1", **which}
    page = lab.admin.get("/api/v1/desktops", params=query).raise_for_status().json()
    return int(page["total"])


def _wait(condition: Callable[[], bool], what: str, deadline_s: float = 120) -> None:
    deadline = monotonic() + deadline_s
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s} s: {what}")
        sleep(POLL_S)


# --- bare -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Template:
    """The newest version of a template, as a file."""

    file: Path
    virtual_bytes: int

    def overlay(self, disk: Path) -> None:
        """An empty overlay with the options that ours have."""
        arguments = overlay_argv(disk, self.file, self.virtual_bytes)
        subprocess.run(["qemu-img", *arguments], check=True)


def _template(template_id: str) -> _Template:
    versions = (ROOT / ".roost" / "storage").glob(f"*/templates/{template_id}/v*.qcow2")
    newest = max(versions, key=lambda file: int(file.stem.removeprefix("v")))
    command = ["qemu-img", "info", "--output=json", "-f", "qcow2", str(newest)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return _Template(newest, told["virtual-size"])


def _bare_guest(
    connection: libvirt.virConnect, template: _Template, model: str, disk: Path
) -> float:
    """Seconds until ``create`` has returned, by when the guest runs."""
    definition = _definition(model, disk)
    started = perf_counter()
    template.overlay(disk)
    domain = connection.defineXML(definition)
    try:
        domain.create()
        return perf_counter() - started
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(_WITH_STATE)
        disk.unlink()


def _definition(model: str, disk: Path) -> str:
    """A desktop's definition with a name, an identity and a disk of its own, and not Roost's."""
    domain = etree.fromstring(model)
    identity = str(uuid4())
    # With Roost's mark the node's agent would take it for a desktop, and end it.
    for mark in domain.findall("metadata"):
        domain.remove(mark)
    values = {
        "name": f"bench-{identity}",
        "uuid": identity,
        "sysinfo/system/entry[@name='uuid']": identity,
    }
    for path, value in values.items():
        for element in domain.findall(path):
            element.text = value
    [source] = domain.findall("devices/disk[@device='disk']/source")
    source.set("file", str(disk))
    return etree.tostring(domain, encoding="unicode")
