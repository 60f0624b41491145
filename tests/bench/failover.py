"""From a host's death to the last command that restarts a desktop: fakes on real services.

The clock is this process's own: an event counts when it has come over the bus.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

from tests.bench.fleet import Fleet, fleet, import_template, until
from tests.bench.report import Figure
from tests.bench.servers import Servers

from roost_common.bus import Bus, Subscription
from roost_common.contracts.base import Delivery
from roost_common.contracts.desktop import DesktopRestarted, EnsureDesktop, Power
from roost_common.contracts.host import HostDown, HostFenced
from roost_common.topology import COMMANDS, EVENTS, Durability, QueueSpec

SIZES: Final = (1, 10, 50)
SURVIVORS: Final = 10
WITHIN_S: Final = 120.0

FENCE_AGENT: Final = """\
#!/bin/sh
# Speaks the fence agents' protocol; what it switches is dead already, so it costs nothing.
action=reboot plug=
while read -r line; do
    case $line in action=*) action=${line#action=} ;; plug=*) plug=${line#plug=} ;; esac
done
case $action in
metadata) cat <<'END'
<?xml version="1.0" ?>
<resource-agent name="fence_bench" shortdesc="none">
<parameters><parameter name="plug"><content type="string"/></parameter></parameters>
<actions><action name="on"/><action name="off"/><action name="status"/></actions>
</resource-agent>
END
    ;;
off) : >"$0.$plug.off" ;;
on) rm -f "$0.$plug.off" ;;
*) if [ -e "$0.$plug.off" ]; then echo "Status: OFF"; exit 2; fi; echo "Status: ON" ;;
esac
"""


async def measure(servers: Servers) -> list[Figure]:
    """For one, ten and fifty desktops on the dead host."""
    async with fleet(servers, agents=SURVIVORS, settings=_settings) as site:
        await import_template(site)
        return [figure for size in SIZES for figure in await _failure(servers, site, size)]


def _settings(service: str, root: Path) -> dict[str, str]:
    """What the services need for fencing; no second path, for all of it is one machine."""
    if service != "ha-monitor":
        return {}
    agents = root / "agents"
    agents.mkdir()
    program = agents / "fence_bench"
    program.write_text(FENCE_AGENT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"FENCE_AGENTS_DIR": str(agents), "PROBE_PORTS": "[]"}


@dataclass
class _Watch:
    """When what was heard of a failure."""

    node: str
    at: dict[str, float] = field(default_factory=dict)
    commands: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)

    async def heard(self, delivery: Delivery) -> None:
        """One event or command."""
        now, message = perf_counter(), delivery.message
        match message:
            case HostDown() | HostFenced() if message.node == self.node:
                self.at.setdefault(message.name, now)
            case EnsureDesktop() if message.power is Power.ON and HostFenced.name in self.at:
                self.commands.append(now)
            case DesktopRestarted():
                self.back.append(now)
            case _:
                pass

    @property
    def queue(self) -> QueueSpec:
        """All that is watched."""
        names = (HostDown.name, HostFenced.name, DesktopRestarted.name)
        bindings = [(EVENTS, name) for name in names]
        return QueueSpec(
            f"bench.{self.node}",
            Durability.OWN_SAMPLES,
            (*bindings, (COMMANDS, f"{EnsureDesktop.name}.#")),
        )


async def _failure(servers: Servers, site: Fleet, size: int) -> list[Figure]:
    inventory, ha = site.clients["inventory"], site.clients["ha-monitor"]
    victim = f"bench-victim-{size}-0"
    async with AsyncExitStack() as stack:
        agents = [sys.executable, "-m", "tests.bench.agents", servers.amqp_url, "1"]
        process = subprocess.Popen([*agents, f"bench-victim-{size}-"], env=dict(os.environ))
        stack.callback(_end, process)
        await _state(site, victim, "up")
        others = [f"bench-{number}" for number in range(SURVIVORS)]
        for node in others:
            (await inventory.post(f"/api/v1/hosts/{node}/maintenance")).raise_for_status()
        pool = f"failing-{size}"
        body = {
            "name": pool,
            "kind": "automatic",
            "template": "bench",
            "min": size,
            "max": size,
            "spare": 0,
            "spec": {"vcpus": 1, "memory_mib": 256, "monitors": 1},
        }
        (await site.clients["broker"].post("/api/v1/pools", json=body)).raise_for_status()

        async def run() -> bool:
            found = (await inventory.get(f"/api/v1/desktops?pool={pool}")).json()
            return bool(sum(one["state"] == "running" for one in found["items"]) == size)

        await until(run, WITHIN_S)
        for node in others:
            (await inventory.post(f"/api/v1/hosts/{node}/activate")).raise_for_status()
        device = {"agent": "fence_bench", "options": {"plug": victim}}
        (await ha.put(f"/api/v1/ha/fencing/{victim}", json=device)).raise_for_status()
        watch = await stack.enter_async_context(_watching(servers, victim))

        process.send_signal(signal.SIGKILL)
        killed = perf_counter()

        async def back() -> bool:
            return len(watch.back) >= size

        await until(back, WITHIN_S)
        url = f"/api/v1/pools/{pool}?force=true"
        (await site.clients["broker"].delete(url)).raise_for_status()
    noticed, fenced = watch.at[HostDown.name], watch.at[HostFenced.name]
    of = f"{size} desktop{'s' * (size > 1)} on a dead host"
    return [
        Figure(f"{of}: noticed", "s", noticed - killed, wanted="at most 5"),
        Figure(f"{of}: fenced", "s", fenced - killed),
        Figure(
            f"{of}: last command after the fence",
            "s",
            max(watch.commands[:size]) - fenced,
            wanted="at most 2",
        ),
        Figure(f"{of}: all back", "s", max(watch.back) - killed),
    ]


@asynccontextmanager
async def _watching(servers: Servers, node: str) -> AsyncIterator[_Watch]:
    watch = _Watch(node)
    bus = Bus(servers.amqp_url, "bench", central=False)
    bus.subscribe(Subscription(watch.queue, watch.heard, prefetch=200))
    task = asyncio.create_task(bus.run())
    try:
        await bus.wait_connected()
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _state(site: Fleet, node: str, wanted: str) -> None:
    async def reached() -> bool:
        answer = await site.clients["inventory"].get(f"/api/v1/hosts/{node}")
        return answer.status_code == 200 and bool(answer.json()["state"] == wanted)

    await until(reached, 60)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(timeout=40)
