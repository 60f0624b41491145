"""Desktops from a template: disk and definition, against bare ``qemu-img create`` and define."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter, sleep
from uuid import uuid4

from lxml import etree
from tests.bench.launch import ROOT, Lab
from tests.bench.report import Figure

DESKTOPS = 20


def measure(lab: Lab) -> list[Figure]:
    """Seconds a desktop, from the request to its disk, made many at once but not started."""
    return [Figure("desktop from template", "s", _ours(lab), _bare(lab), wanted="at most 0.2")]


def _ours(lab: Lab) -> float:
    pool = lab.admin.get(f"/api/v1/pools/{lab.pool}").raise_for_status().json()
    names = [f"bench-{uuid4().hex[:8]}" for _ in range(DESKTOPS)]
    started = perf_counter()
    for name in names:
        body = {"name": name, "template": pool["template"], "spec": pool["spec"], "power": "off"}
        lab.admin.post("/api/v1/desktops", json=body).raise_for_status()
    _wait(lambda: all(_state(lab, name) == "stopped" for name in names))
    taken = perf_counter() - started
    for name in names:
        lab.admin.delete(f"/api/v1/desktops/{name}").raise_for_status()
    return taken / DESKTOPS


def _state(lab: Lab, name: str) -> str:
    return str(lab.admin.get(f"/api/v1/desktops/{name}").raise_for_status().json()["state"])


def _wait(condition: Callable[[], bool], deadline_s: float = 120) -> None:
    deadline = monotonic() + deadline_s
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s} s")
        sleep(0.05)


def _bare(lab: Lab) -> float:
    """The same overlays and definitions, by hand, one after the other."""
    template = next(iter((ROOT / ".roost" / "storage").glob("*/templates/*/v1.qcow2")))
    node = lab.variables["ROOST_NODES"].split(",")[0]
    connection = lab.libvirt_of(node)
    running = connection.listAllDomains()
    model = etree.fromstring(running[0].XMLDesc()) if running else None
    with tempfile.TemporaryDirectory(dir=template.parents[2]) as folder:
        started = perf_counter()
        domains = []
        for number in range(DESKTOPS):
            disk = Path(folder) / f"{number}.qcow2"
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]
            subprocess.run([*command, str(template), str(disk)], check=True)
            domains.append(connection.defineXML(_definition(model, disk)))
        taken = perf_counter() - started
        for domain in domains:
            domain.undefine()
    connection.close()
    return taken / DESKTOPS


def _definition(model: etree._Element | None, disk: Path) -> str:
    """A running desktop's definition with a name, an identity and a disk of its own."""
    if model is None:
        raise RuntimeError("the node runs no desktop whose definition could be copied")
    for field, value in (("name", disk.parent.name + disk.stem), ("uuid", str(uuid4()))):
        element = model.find(field)
        if element is not None:
            element.text = value
    for entry in model.findall("sysinfo/system/entry[@name='uuid']"):
        entry.text = model.findtext("uuid")
    source = model.find("devices/disk/source")
    if source is not None:
        source.set("file", str(disk))
    return str(etree.tostring(model, encoding="unicode"))
