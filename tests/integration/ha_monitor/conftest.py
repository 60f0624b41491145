"""A small site for ha-monitor: real bus, real database, nodes that beat, somebody who listens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from tests import polling
from tests.polling import What

from roost_common import topology
from roost_common.bus import Bus, Subscription
from roost_common.clock import SystemClock
from roost_common.contracts.alert import AlertCleared, AlertFact, AlertRaised
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.host import (
    HealthFact,
    HostBeat,
    HostDown,
    HostFenced,
    HostPoweredOff,
    HostPoweredOn,
    HostPowerRefused,
    HostRecovered,
    HostSuspected,
    HostUp,
    LeaseGranted,
)
from roost_common.contracts.incident import IncidentChanged, IncidentOpened, IncidentResolved
from roost_common.security import Identity, Role, TokenSigner, new_signing_key
from roost_common.service import Parts, running
from roost_common.topology import Durability, QueueSpec
from roost_ha_monitor.alerts import OF_STATES
from roost_ha_monitor.bootstrap import build
from roost_ha_monitor.migrations import MIGRATIONS
from roost_ha_monitor.settings import Settings

M = TypeVar("M", bound=Message)

SUSPECT_S, DOWN_S, QUIET_S = 2.0, 3.0, 1.0
BEAT_S = 0.2
DEADLINE_S = 45.0
START_DEADLINE_S = 90.0

SHARED = UUID(int=42)
"""The directory in which all nodes see each other."""


async def eventually(question: Callable[[], Any], what: What, within: float = DEADLINE_S) -> Any:
    """`polling.eventually`, with the time that hosts, fences and managers take here; many
    questions open a connection of their own to the database."""
    return await polling.eventually(question, what, within, pause=0.05)


class Node:
    """An agent that does nothing but beat."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self.name = name
        self.agent_id = uuid4()
        self.sequence = 0
        self.libvirt = True
        self.address = ""
        self.lease_s = 0.0
        self.lease_armed = False
        self.witness: UUID | None = SHARED
        self.last: HostBeat | None = None
        self._task: asyncio.Task[None] | None = None

    async def beat(self) -> None:
        self.sequence += 1
        self.last = HostBeat(
            node=self.name,
            agent_id=self.agent_id,
            sequence=self.sequence,
            sent_at=datetime.now(UTC),
            libvirt=self.libvirt,
            address=self.address,
            lease_s=self.lease_s,
            lease_armed=self.lease_armed,
            witness=self.witness,
        )
        await self._bus.publish(self.last)

    async def repeat(self) -> None:
        """The last beat once more."""
        assert self.last is not None
        await self._bus.publish(self.last)

    async def _live(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_S)

    def live(self) -> None:
        assert self._task is None
        self._task = asyncio.create_task(self._live())

    def obey(self, heard: list[Message]) -> None:
        """Hold a grant that counts, or none, as it was last told to."""
        mine = [m for m in heard if isinstance(m, LeaseGranted) and m.agent_id == self.agent_id]
        self.lease_armed = bool(mine) and mine[-1].armed

    def reboot(self) -> None:
        """It comes back as another run of its agent."""
        self.agent_id, self.sequence = uuid4(), 0
        self.live()

    async def die(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


class Listener:
    """Somebody else's system: hears every event of ha-monitor.

    What a killed copy had sent but not yet struck off is sent again by another, with the same
    id; like every consumer, this one takes a message once.
    """

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._ids: set[UUID] = set()

    @property
    def subscription(self) -> Subscription:
        queue = topology.service_queue(
            "test-listener",
            HostUp,
            HostSuspected,
            HostDown,
            HostRecovered,
            AlertRaised,
            AlertCleared,
            HostFenced,
            HostPoweredOff,
            HostPoweredOn,
            HostPowerRefused,
            IncidentOpened,
            IncidentChanged,
            IncidentResolved,
        )
        return Subscription(queue, self._handle)

    async def _handle(self, delivery: Delivery) -> None:
        if delivery.envelope.id not in self._ids:
            self._ids.add(delivery.envelope.id)
            self.heard.append(delivery.message)

    @property
    def grants(self) -> Subscription:
        """What every node is granted."""
        binding = (topology.TELEMETRY, f"{LeaseGranted.name}.#")
        queue = QueueSpec("roost.test-grants", Durability.SAMPLES, (binding,))
        return Subscription(queue, self._handle)

    def health(self, node: str) -> list[HealthFact]:
        return [m for m in self.heard if isinstance(m, HealthFact) and m.node == node]

    def names(self, node: str) -> list[str]:
        """host.up, host.down, … in the order of their sequence."""
        facts = sorted(self.health(node), key=lambda fact: fact.sequence)
        return [fact.name.removesuffix(".v1") for fact in facts]

    def alerts(self, node: str, *kinds: str) -> list[tuple[str, str]]:
        """What was said of these kinds of alerts on a host; of all that its health causes."""
        return [
            (m.name.removesuffix(".v1"), m.alert)
            for m in self.heard
            if isinstance(m, AlertFact) and m.object == node and m.alert in (kinds or OF_STATES)
        ]

    def of(self, kind: type[M]) -> list[M]:
        """Every message of one class, in the order in which they came."""
        return [message for message in self.heard if isinstance(message, kind)]

    def assert_each_once(self, node: str) -> None:
        """Sequences without a gap and without a double."""
        sequences = sorted(fact.sequence for fact in self.health(node))
        assert sequences == list(range(1, len(sequences) + 1))


AGENT_SCRIPT = '''#!{python}
"""A fence agent for tests: a file is the host's power, another one says how it behaves."""
import fcntl, os, pathlib, signal, sys
home = pathlib.Path(__file__).parent
given = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin if "=" in line)
action, plug = given.get("action"), given.get("plug", "")
if action == "metadata":
    print("""<?xml version="1.0" ?><resource-agent name="fence_fake"><parameters>
    <parameter name="plug"><content type="string" /></parameter>
    <parameter name="password"><content type="string" /></parameter>
    <parameter name="password_script"><content type="string" /></parameter>
    <parameter name="way"><content type="string" /></parameter>
    </parameters><actions><action name="on" /><action name="off" /><action name="status" />
    <action name="metadata" /></actions></resource-agent>""")
    sys.exit(0)
with (home / "log").open("a") as log:
    log.write(f"{{given.get('way', '')}} {{action}} {{plug}}\\n")
power = home / f"power-{{plug}}"
behaviour = home / f"way-{{given.get('way', '')}}"
def told():
    return behaviour.read_text() if behaviour.exists() else "works"
def hangs():
    return told() == "stalls" or (told() == "hangs" and action != "status")
parent = os.getppid()
signal.alarm(120)
while hangs():
    with (home / f"gate-{{given.get('way', '')}}").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    # It does nothing for somebody who was killed meanwhile.
    if os.getppid() != parent:
        sys.exit(1)
how = told()
if how == "denies" or (how == "fails" and action != "status"):
    print("login with " + given.get("password", "") + " refused", file=sys.stderr)
    sys.exit(3)
if action == "status":
    state = power.read_text() if power.exists() else "on"
    print("Status: " + state.upper())
    sys.exit(0 if state == "on" else 2)
if how != "lies":
    power.write_text(action)
print("Success")
'''


class FakeFenceAgents:
    """Fence agents as small programs that speak the protocol; ``way`` tells them apart."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "fence-agents"
        self.directory.mkdir()
        agent = self.directory / "fence_fake"
        agent.write_text(AGENT_SCRIPT.format(python=sys.executable))
        agent.chmod(0o755)
        self._gates: dict[str, IO[str]] = {}
        """Locked by us, and waited for by devices that hang."""

    def behave(self, way: str, how: str) -> None:
        """works, fails (to switch), denies (everything), lies, hangs (to switch, until told
        otherwise), stalls (whatever it is asked, until told otherwise)."""
        waits = how in ("hangs", "stalls")
        if waits and way not in self._gates:
            gate = self._gates[way] = (self.directory / f"gate-{way}").open("w")
            fcntl.flock(gate, fcntl.LOCK_EX)
        (self.directory / f"way-{way}").write_text(how)
        if not waits and way in self._gates:
            self._gates.pop(way).close()

    def close(self) -> None:
        """Whatever hangs goes on."""
        for way in list(self._gates):
            self.behave(way, "works")

    def power(self, plug: str) -> str:
        """Whether the host behind ``plug`` is on."""
        file = self.directory / f"power-{plug}"
        return file.read_text() if file.exists() else "on"

    def asked(self, plug: str) -> list[str]:
        """Which ways were asked or told what for ``plug``, in order."""
        log = self.directory / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        words = (line.split(" ") for line in lines)
        return [f"{way}:{action}" for way, action, on in words if on == plug]

    def switched(self, plug: str) -> list[str]:
        """Which ways were told off or on for ``plug``, in order."""
        return [each for each in self.asked(plug) if not each.endswith(":status")]

    @staticmethod
    def device(plug: str, way: str = "") -> dict[str, Any]:
        """A device as the API takes it."""
        return {
            "agent": "fence_fake",
            "options": {"plug": plug, "way": way, "password": f"secret-of-{plug}"},
        }


class Site:
    """Where everything is, and ways to start copies of the service."""

    def __init__(
        self, amqp_url: str, database_url: str, bus: Bus, listener: Listener, directory: Path
    ) -> None:
        self.amqp_url = amqp_url
        self.database_url = database_url
        self.bus = bus
        self.listener = listener
        self.directory = directory
        self.agents = FakeFenceAgents(directory)
        self.extra: dict[str, Any] = {}
        """Settings of the copies that are started from now on."""
        key_file = directory / "keys"
        key_file.write_text(base64.b64encode(bytes(32)).decode() + "\n")
        self.fencing = {
            "secret_key_file": key_file,
            "fence_agents_dir": self.agents.directory,
            "fence_switch_timeout_s": 3.0,
            "fence_status_timeout_s": 3.0,
        }
        self.nodes: list[Node] = []
        self.processes: list[Process] = []
        self.signer = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(hours=1))

    def node(self, name: str) -> Node:
        node = Node(self.bus, name)
        self.nodes.append(node)
        return node

    def settings(self, amqp_url: str | None = None) -> Settings:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return Settings(
            amqp_url=SecretStr(amqp_url or self.amqp_url),
            database_url=SecretStr(self.database_url),
            listen=f"127.0.0.1:{port}",
            suspect_after_s=SUSPECT_S,
            down_after_s=DOWN_S,
            quiet_s=QUIET_S,
            **{**self.fencing, **self.extra},
        )

    @asynccontextmanager
    async def copy(self, amqp_url: str | None = None) -> AsyncIterator[Parts]:
        """A copy in this process, whole."""

        async def keys() -> dict[str, Any]:
            return self.signer.jwks()

        settings = self.settings(amqp_url)
        async with build(settings, keys=keys) as parts, running(parts, settings):
            await parts.bus.wait_connected()
            yield parts

    async def process(self) -> Process:
        """A copy as a process of its own, to be killed."""
        settings = self.settings()
        environment = {
            "ROOST_HA_MONITOR_AMQP_URL": self.amqp_url,
            "ROOST_HA_MONITOR_DATABASE_URL": self.database_url,
            "ROOST_HA_MONITOR_LISTEN": settings.listen,
            "ROOST_HA_MONITOR_SUSPECT_AFTER_S": str(SUSPECT_S),
            "ROOST_HA_MONITOR_DOWN_AFTER_S": str(DOWN_S),
            "ROOST_HA_MONITOR_QUIET_S": str(QUIET_S),
            **{
                f"ROOST_HA_MONITOR_{name.upper()}": str(value)
                for name, value in {**self.fencing, **self.extra}.items()
            },
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "roost_ha_monitor", env=os.environ | environment
        )
        self.processes.append(process)
        url = f"http://{settings.listen}/readyz"

        async def ready() -> bool:
            assert process.returncode is None, "the copy ended by itself"
            try:
                async with httpx.AsyncClient(trust_env=False) as client:
                    return (await client.get(url)).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, "the copy is ready", START_DEADLINE_S)
        return process

    def client(self, parts: Parts, *roles: Role) -> httpx.AsyncClient:
        """Somebody with these roles, asking this copy."""
        who = Identity(id=uuid4(), name="root", roles=frozenset(roles))
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=parts.app),
            base_url="http://test",
            headers={"Authorization": f"Bearer {self.signer.sign(who)}"},
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own to the service's schema."""
        dsn = self.database_url.replace("postgresql+asyncpg", "postgresql")
        connection = await asyncpg.connect(dsn, server_settings={"search_path": "ha_monitor"})
        try:
            yield connection
        finally:
            await connection.close()

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """One statement in the service's schema."""
        async with self.connection() as connection:
            return list(await connection.fetch(query, *args))

    async def holder(self) -> UUID | None:
        """Who holds the lease now."""
        rows = await self.sql("select holder from leases where expires_at > clock_timestamp()")
        return rows[0]["holder"] if rows else None

    async def heard(self, node: str, *names: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait for exactly these changes of a host's health, from the first on."""
        want = [f"host.{name}" for name in names]

        def check() -> bool:
            return self.listener.names(node)[: len(want)] == want

        await eventually(
            check, lambda: f"{node}: {want}, but {self.listener.names(node)}", deadline_s
        )

    async def close(self) -> None:
        self.agents.close()
        for node in self.nodes:
            await node.die()
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()


@pytest.fixture
async def site(amqp_url: str, new_database: Any, tmp_path: Path) -> AsyncIterator[Site]:
    """A bus and a database of this test's own."""
    listener = Listener()
    bus = Bus(amqp_url, "test")
    bus.subscribe(listener.subscription)
    bus.subscribe(listener.grants)
    run = asyncio.create_task(bus.run())
    await bus.wait_connected()
    site = Site(amqp_url, await new_database(MIGRATIONS), bus, listener, tmp_path)
    yield site
    await site.close()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


class Wire:
    """A TCP connection's way, which can be frozen without anybody being told."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        for task in list(self._pumps):
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


@pytest.fixture
def wire_to_the_bus(amqp_url: str) -> Callable[[], AbstractAsyncContextManager[tuple[Wire, str]]]:
    """Makes a wire to the bus and its AMQP address."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Wire, str]]:
        url = httpx.URL(amqp_url)
        wire = Wire(url.host, url.port or 5672)
        server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield wire, str(url.copy_with(host="127.0.0.1", port=port))
        server.close()
        await wire.close()

    return make
