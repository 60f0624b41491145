"""Launches a second with fifty agents: real services, bus and database, fake hypervisors."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, perf_counter

import httpx
import psutil
from cryptography.fernet import Fernet
from tests.bench.report import Figure, percentile
from tests.bench.servers import Servers, free_port

from roost_common.security import new_signing_key

AGENTS = 50
USERS = 400
"""Enough that what is done once, such as to open connections, is not most of a first launch."""
LAUNCHES_EACH = 3
CLIENTS = 16
"""Launches in flight: more only measures the queue in front of two cores."""
ROOT = Path(__file__).parents[2]
CENTRAL = ("broker", "inventory", "imaging", "ha-monitor")


async def measure(servers: Servers) -> list[Figure]:
    """First launches (a free desktop is claimed) and later ones (the same desktop again)."""
    async with fleet(servers, agents=AGENTS) as site:
        users = await _pool_of(site)
        before = _processor_s()
        first = await asyncio.to_thread(_launch_all, site.port, users, 1)
        between = _processor_s()
        again = await asyncio.to_thread(_launch_all, site.port, users, LAUNCHES_EACH)
        after = _processor_s()
        resident = psutil.Process(site.pids["broker"]).memory_info().rss / (1 << 20)
    wanted = "at least 100"
    return [
        Figure("first launches, 50 agents", "/s", len(first[0]) / first[1], wanted=wanted),
        Figure("launches again, 50 agents", "/s", len(again[0]) / again[1], wanted=wanted),
        Figure("first launch p95, 16 at once", "ms", percentile(first[0], 95) * 1000),
        Figure("launch again p95, 16 at once", "ms", percentile(again[0], 95) * 1000),
        Figure("broker resident", "MiB", resident),
        *_spent("first launch", before, between, len(first[0])),
        *_spent("launch again", between, after, len(again[0])),
    ]


def _spent(
    what: str, before: dict[str, float], after: dict[str, float], launches: int
) -> list[Figure]:
    """Processor time a launch, of all that have part in it and of what goes on beside it."""
    spent = {name: (s - before.get(name, 0)) / launches * 1000 for name, s in after.items()}
    return [
        Figure(f"processor a {what}: {name}", "ms", milliseconds)
        for name, milliseconds in sorted(spent.items(), key=lambda item: -item[1])
    ]


def _processor_s() -> dict[str, float]:
    """Processor seconds used so far by everything that has part in a launch, by name."""
    used: dict[str, float] = {}
    for process in psutil.process_iter(["name", "cmdline", "cpu_times"]):
        command = process.info["cmdline"] or []
        name = process.info["name"]
        if "-m" in command[:-1]:
            name = command[command.index("-m") + 1]
        if name.startswith(("roost_", "tests.bench", "postgres", "beam")):
            times = process.info["cpu_times"]
            used[name] = used.get(name, 0.0) + times.user + times.system
    return used


@dataclass
class Fleet:
    """The services' HTTP, as an administrator, their processes, and where images come from."""

    root: Path
    port: int
    """Broker's."""
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def fleet(
    servers: Servers,
    *,
    agents: int,
    settings: Callable[[str, Path], dict[str, str]] = lambda _service, _root: {},
) -> AsyncIterator[Fleet]:
    """All services on a database of their own, and so many agents; ``settings`` adds to a
    service's settings, without their prefix."""
    database = f"fleet_{secrets.token_hex(4)}"
    servers.postgres.create_database(database)
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-fleet-")))
        password = secrets.token_urlsafe(16)
        (root / "key.pem").write_bytes(new_signing_key())
        (root / "password").write_text(password)
        (root / "sealing-key").write_bytes(Fernet.generate_key())
        for folder in ("storage", "import"):
            (root / folder).mkdir()
        ports = {service: free_port() for service in CENTRAL}
        site = Fleet(root, ports["broker"])
        for service in CENTRAL:
            environment = _environment(
                service, servers.postgres.url(database), servers.amqp_url, ports, root
            )
            prefix = _prefix(service)
            extra = settings(service, root)
            environment |= {prefix + name: value for name, value in extra.items()}
            module = f"roost_{service.replace('-', '_')}"
            subprocess.run([sys.executable, "-m", module, "migrate"], env=environment, check=True)
            site.pids[service] = _start(stack, [sys.executable, "-m", module], environment)
            url = f"http://127.0.0.1:{ports[service]}"
            site.clients[service] = await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
            )
        nodes = [
            sys.executable,
            "-m",
            "tests.bench.agents",
            servers.amqp_url,
            str(agents),
            "bench-",
        ]
        _start(stack, nodes, dict(os.environ))
        for client in site.clients.values():
            await until(partial(_ready, client), 60)
        form = {"username": "admin", "password": password}
        token = await _log_on(site.clients["broker"], form)
        for client in site.clients.values():
            client.headers["Authorization"] = f"Bearer {token}"
        yield site


def _start(stack: AsyncExitStack, command: list[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment, cwd=ROOT)

    def stop() -> None:
        process.terminate()
        process.wait(timeout=40)

    stack.callback(stop)
    return process.pid


def _prefix(service: str) -> str:
    return f"ROOST_{service.replace('-', '_').upper()}_"


def _environment(
    service: str, database_url: str, amqp_url: str, ports: dict[str, int], root: Path
) -> dict[str, str]:
    settings = {
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "LISTEN": f"127.0.0.1:{ports[service]}",
        "JWKS_URL": f"http://127.0.0.1:{ports['broker']}/api/v1/auth/jwks",
        "LOG_LEVEL": "warning",
    }
    own: dict[str, dict[str, Path | str]] = {
        "broker": {
            "SIGNING_KEY_FILE": root / "key.pem",
            "ADMIN_PASSWORD_FILE": root / "password",
        },
        "inventory": {"AUTO_APPROVE": "bench-*"},
        "imaging": {"IMPORT_DIR": root / "import", "STORAGE_ROOT": root / "storage"},
        "ha-monitor": {"SECRET_KEY_FILE": root / "sealing-key"},
    }
    settings |= {name: str(value) for name, value in own.get(service, {}).items()}
    prefix = _prefix(service)
    return {**os.environ, **{prefix + name: value for name, value in settings.items()}}


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def until(question: Callable[[], Awaitable[bool]], deadline_s: float) -> None:
    """Ask five times a second; raises `TimeoutError`."""
    deadline = monotonic() + deadline_s
    while not await question():
        if monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s} s")
        await asyncio.sleep(0.2)


async def import_template(site: Fleet) -> None:
    """A template that is called bench, and holds nothing."""
    imaging = site.clients["imaging"]
    created = await imaging.post("/api/v1/storage", json={"name": "bench", "path": "bench"})
    created.raise_for_status()
    image = site.root / "import" / "bench.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    body = {"name": "bench", "os": "linux", "source": {"path": "bench.qcow2"}}
    job = (await imaging.post("/api/v1/templates", json=body)).raise_for_status()

    async def imported() -> bool:
        state = (await imaging.get(job.headers["location"])).json()["state"]
        return bool(state == "done")

    await until(imported, 60)


async def _pool_of(site: Fleet) -> list[str]:
    """A pool with a running desktop for each user; returns the users' tokens."""
    await import_template(site)
    admin = site.clients["broker"]
    passwords = {f"user{number}": secrets.token_urlsafe(12) for number in range(USERS)}
    for name, password in passwords.items():
        answer = await admin.post("/api/v1/users", json={"name": name, "password": password})
        answer.raise_for_status()
    pool = {
        "name": "bench",
        "kind": "automatic",
        "template": "bench",
        "min": USERS,
        "max": USERS,
        "spare": USERS,
        "max_per_user": 1,
        "pending_timeout_s": 3600,
        "spec": {"vcpus": 1, "memory_mib": 256, "monitors": 1},
    }

    async def accepted() -> bool:
        return (await admin.post("/api/v1/pools", json=pool)).status_code == 201

    await until(accepted, 60)  # the template's event may still be on its way
    entitled = [{"user": name} for name in passwords]
    (await admin.put("/api/v1/pools/bench/entitlements", json=entitled)).raise_for_status()

    async def filled() -> bool:
        found = (await admin.get("/api/v1/pools/bench")).json()
        return bool(found["desktops"]["free"] == USERS)

    await until(filled, 300)
    forms = [{"username": name, "password": password} for name, password in passwords.items()]
    return [await _log_on(admin, form) for form in forms]


async def _log_on(broker: httpx.AsyncClient, form: dict[str, str]) -> str:
    answer = await broker.post("/api/v1/auth/token", data=form)
    return str(answer.raise_for_status().json()["access_token"])


def _launch_all(port: int, tokens: list[str], each: int) -> tuple[list[float], float]:
    """Seconds of every launch, and of all of them together.

    The launchers share the machine with what is measured: plain connections, kept open, are the
    least that they can cost.
    """
    work = [token for _ in range(each) for token in tokens]
    body = json.dumps({"pool": "bench"})
    taken: list[float] = []

    def launcher() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        with closing(connection):
            while True:
                try:
                    token = work.pop()
                except IndexError:
                    return
                headers = {
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                    "Prefer": "wait=30",
                }
                started = perf_counter()
                connection.request("POST", "/api/v1/launch", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                taken.append(perf_counter() - started)
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status} {text[:300]!r}")

    started = perf_counter()
    with ThreadPoolExecutor(CLIENTS) as launchers:
        for launched in [launchers.submit(launcher) for _ in range(CLIENTS)]:
            launched.result()
    return taken, perf_counter() - started
