"""Launch of a running desktop through the lab's front, against a bare libvirt password change."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final

import httpx
import libvirt
import psutil
from lxml import etree
from tests.bench.report import Figure, percentile

ROOT = Path(__file__).parents[2]
ROUNDS: Final = 100


class Lab:
    """The lab that is up, as its administrator and as the demo user."""

    def __init__(self) -> None:
        lines = (ROOT / ".roost" / "lab.env").read_text().splitlines()
        pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
        self.variables = {name: value.strip("'\"") for name, value in pairs}
        self.pool = self.variables["ROOST_DEMO_POOL"]
        self.admin = self._client("ADMIN")
        self.user = self._client("DEMO")

    def _client(self, who: str) -> httpx.Client:
        client = httpx.Client(base_url=self.variables["ROOST_URL"], timeout=60, trust_env=False)
        form = {
            "username": self.variables[f"ROOST_{who}_USER"],
            "password": self.variables[f"ROOST_{who}_PASSWORD"],
        }
        answer = client.post("/api/v1/auth/token", data=form).raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def libvirt_of(self, node: str) -> libvirt.virConnect:
        """A connection to one node's libvirt, as bare work would use it."""
        address = self.admin.get(f"/api/v1/hosts/{node}").raise_for_status().json()["address"]
        return libvirt.open(f"qemu+tcp://{address}/system")

    def log_off(self) -> None:
        """End the demo user's sessions."""
        for session in self.user.get("/api/v1/sessions").raise_for_status().json()["items"]:
            if session["state"] != "ended":
                self.user.delete(f"/api/v1/sessions/{session['id']}").raise_for_status()

    def resident_mib(self, module: str) -> list[float]:
        """Resident memory of the processes that run a module."""
        found = []
        for process in psutil.process_iter(["cmdline", "memory_info"]):
            words = process.info["cmdline"] or []
            if module in words:
                found.append(process.info["memory_info"].rss / (1 << 20))
        return found


@contextmanager
def lab() -> Iterator[Lab]:
    """The lab: the one that is up, or one for this run."""
    was_up = (ROOT / ".roost" / "lab.env").exists()
    subprocess.run([ROOT / "deploy" / "lab" / "up"], check=True, env=dict(os.environ))
    try:
        yield Lab()
    finally:
        if not was_up:
            subprocess.run([ROOT / "deploy" / "lab" / "down"], check=True)


def measure(lab: Lab) -> list[Figure]:
    """p50 and p95 of both, in turn on the same desktop, in milliseconds."""

    def launch() -> dict[str, dict[str, str]]:
        answer = lab.user.post(
            "/api/v1/launch", json={"pool": lab.pool}, headers={"Prefer": "wait=50"}
        )
        ready: dict[str, dict[str, str]] = answer.raise_for_status().json()
        return ready

    desktop = launch()["desktop"]["id"]
    host = lab.admin.get(f"/api/v1/desktops/{desktop}").raise_for_status().json()["host"]
    connection = lab.libvirt_of(host)
    domain = connection.lookupByUUIDString(desktop)
    [graphics] = etree.fromstring(domain.XMLDesc()).findall("devices/graphics")
    ours, bare = [], []
    for _ in range(ROUNDS):
        started = perf_counter()
        launch()
        ours.append((perf_counter() - started) * 1000)
        started = perf_counter()
        change_password(domain, graphics)
        bare.append((perf_counter() - started) * 1000)
    connection.close()
    lab.log_off()
    shares = [one - other for one, other in zip(ours, bare, strict=True)]
    return [
        Figure(
            "launch of a running desktop, p50", "ms", percentile(ours, 50), percentile(bare, 50)
        ),
        Figure(
            "launch of a running desktop, p95", "ms", percentile(ours, 95), percentile(bare, 95)
        ),
        Figure("Roost's share of a launch, p95", "ms", percentile(shares, 95), wanted="under 150"),
        *(
            Figure("host-agent resident", "MiB", size, wanted="under 80")
            for size in lab.resident_mib("roost_host_agent")
        ),
    ]


def change_password(domain: libvirt.virDomain, graphics: etree._Element) -> None:
    """What a launch cannot do without: a new SPICE password, valid for seconds."""
    graphics.set("passwd", secrets.token_urlsafe(12))
    until = datetime.now(UTC) + timedelta(seconds=30)
    graphics.set("passwdValidTo", until.strftime("%Y-%m-%dT%H:%M:%S"))
    graphics.set("connected", "disconnect")
    domain.updateDeviceFlags(etree.tostring(graphics, encoding="unicode"), 0)
