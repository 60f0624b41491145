"""A whole imaging service on a private database and bus, with directories of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
from tests.conftest import free_port
from tests.needs import require
from tests.polling import eventually

from roost_common.bus import Bus, Subscription
from roost_common.clock import SystemClock
from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.disk import DiskDeleted, DiskReady, DiskRefused, EnsureDisk
from roost_common.contracts.template import (
    JobFinished,
    StorageChanged,
    TemplateCreated,
    TemplateDeleted,
)
from roost_common.db import Database
from roost_common.outbox import UnitOfWork
from roost_common.security import Identity, Role, TokenSigner, new_signing_key
from roost_common.service import Parts, running
from roost_common.topology import service_queue
from roost_imaging.bootstrap import build
from roost_imaging.migrations import MIGRATIONS
from roost_imaging.settings import Settings

MIB = 1 << 20
M = TypeVar("M", bound=Message)
SIGNER = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(hours=1))
FACTS = (
    DiskReady,
    DiskRefused,
    DiskDeleted,
    TemplateCreated,
    TemplateDeleted,
    JobFinished,
    StorageChanged,
)


def token(*roles: Role) -> str:
    """An access token for somebody with these roles."""
    name = "admin" if Role.ADMIN in roles else "john"
    return SIGNER.sign(Identity(uuid4(), name, frozenset(roles)))


async def keys() -> dict[str, Any]:
    """The signer's public key, as the broker would serve it."""
    return SIGNER.jwks()


@dataclass
class World:
    """What a test sees of one imaging service."""

    settings: Settings
    imports: Path
    storage: Path
    bus: Bus
    http: httpx.AsyncClient
    user: httpx.AsyncClient
    database: Database
    unit: UnitOfWork
    deliveries: list[Delivery] = field(default_factory=list)
    """What was heard, with its envelopes."""

    @property
    def heard(self) -> list[Message]:
        """What was heard."""
        return [delivery.message for delivery in self.deliveries]

    # --- images -------------------------------------------------------------------------------

    def qemu_img(self, *arguments: str | Path) -> str:
        """Run qemu-img in the import directory."""
        done = subprocess.run(
            ["qemu-img", *map(str, arguments)],
            cwd=self.imports,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def qemu_io(self, image: str, format_: str, *commands: str) -> None:
        """Write into an image of the import directory."""
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(
            ["qemu-io", "-f", format_, *words, image],
            cwd=self.imports,
            capture_output=True,
            check=True,
        )

    def image(self, name: str, format_: str = "qcow2", *, mib: int = 8, data_mib: int = 2) -> Path:
        """A sound image with something in it."""
        self.qemu_img("create", "-q", "-f", format_, name, f"{mib}M")
        self.qemu_io(name, format_, f"write -P 0x5a 0 {data_mib}M", "write -P 0x17 5M 64k")
        return self.imports / name

    # --- HTTP ---------------------------------------------------------------------------------

    async def make_storage(self, name: str = "main") -> dict[str, Any]:
        answer = await self.http.post("/api/v1/storage", json={"name": name, "path": name})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def start_import(self, name: str, path: str, **source: Any) -> dict[str, Any]:
        answer = await self.http.post(
            "/api/v1/templates",
            json={"name": name, "os": "linux", "source": {"path": path, **source}},
        )
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def job(self, job_id: str, *states: str, timeout_s: float = 30) -> dict[str, Any]:
        """The job once it is in one of these states (any end, when none is named)."""
        wanted = states or ("done", "failed", "cancelled")

        async def check() -> dict[str, Any] | None:
            job = (await self.http.get(f"/api/v1/jobs/{job_id}")).json()
            return job if job["state"] in wanted else None

        return await eventually(check, f"the job is {' or '.join(wanted)}", timeout_s)

    async def make_template(self, name: str = "base") -> dict[str, Any]:
        """A storage domain if there is none, and a template that is ready."""
        if not (await self.http.get("/api/v1/storage")).json()["items"]:
            await self.make_storage()
        self.image(f"{name}.qcow2")
        accepted = await self.start_import(name, f"{name}.qcow2")
        job = await self.job(accepted["job_id"])
        assert job["state"] == "done", job
        return dict((await self.http.get(f"/api/v1/templates/{name}")).json())

    def parts(self) -> set[str]:
        """What is in the making."""
        return {name for name in self.files() if name.endswith(".part")}

    def files(self) -> set[str]:
        """Every file below the storage root, markers apart."""
        return {
            str(path.relative_to(self.storage))
            for path in self.storage.rglob("*")
            if path.is_file() and path.name != ".roost-storage"
        }

    # --- the bus ------------------------------------------------------------------------------

    def of(self, kind: type[M]) -> list[M]:
        """What was heard of one class."""
        return [message for message in self.heard if isinstance(message, kind)]

    async def hear(self, kind: type[M], count: int = 1, *, timeout_s: float = 20) -> list[M]:
        """Wait until that many of a class have been heard."""

        await eventually(
            lambda: len(self.of(kind)) >= count, f"{count} {kind.__name__} are heard", timeout_s
        )
        return self.of(kind)

    def wish(
        self, template: dict[str, Any], disk_id: UUID, generation: int = 1, *, present: bool = True
    ) -> EnsureDisk:
        return EnsureDisk(
            disk_id=disk_id,
            template_id=UUID(template["id"]),
            template_version=template["version"] or 1,
            generation=generation,
            present=present,
        )


Start = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def require_qemu() -> None:
    require("qemu-img", "qemu-io")


@pytest.fixture
async def imaging_settings(
    require_qemu: None,
    new_database: Callable[..., Awaitable[str]],
    amqp_url: str,
    tmp_path: Path,
) -> Callable[..., Settings]:
    """Settings of a service on this test's database, bus and directories; keywords replace some."""
    url = await new_database(MIGRATIONS)
    for name in ("import", "storage"):
        (tmp_path / name).mkdir()

    def make(**changes: Any) -> Settings:
        values = {
            "database_url": url,
            "amqp_url": amqp_url,
            "listen": f"127.0.0.1:{free_port()}",
            "import_dir": tmp_path / "import",
            "storage_root": tmp_path / "storage",
            "min_free_bytes": MIB,
            "max_virtual_bytes": 1 << 40,
            "capacity_interval_s": 0.2,
            "reaper_interval_s": 0.2,
            "recount_age_s": 0.0,
            "job_lease_s": 2.0,
            "log_level": "error",
        }
        return Settings(**{**values, **changes})

    return make


@asynccontextmanager
async def _world(settings: Settings, parts: Parts | None) -> AsyncIterator[World]:
    bus = Bus(settings.amqp_url.get_secret_value(), "imaging-test")
    heard: list[Delivery] = []

    async def keep(delivery: Delivery) -> None:
        heard.append(delivery)

    bus.subscribe(Subscription(service_queue("imaging-test", *FACTS), keep))
    database = Database(settings.database_url.get_secret_value(), "imaging", pool=4)
    listening = asyncio.create_task(bus.run())
    await bus.wait_connected()
    base = f"http://{settings.listen}"
    admin = {"Authorization": f"Bearer {token(Role.ADMIN)}"}
    plain = {"Authorization": f"Bearer {token(Role.USER)}"}
    transport = None if parts is None else httpx.ASGITransport(parts.app)
    async with (
        httpx.AsyncClient(base_url=base, headers=admin, transport=transport, timeout=30) as http,
        httpx.AsyncClient(base_url=base, headers=plain, transport=transport, timeout=30) as user,
    ):
        yield World(
            settings=settings,
            imports=settings.import_dir,
            storage=settings.storage_root,
            bus=bus,
            http=http,
            user=user,
            database=database,
            unit=UnitOfWork(database, "imaging", SystemClock()),
            deliveries=heard,
        )
    await bus.drain(5)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await database.close()


@pytest.fixture
def start(imaging_settings: Callable[..., Settings]) -> Start:
    """Starts a service in this process; keywords replace settings."""

    @asynccontextmanager
    async def begin(**changes: Any) -> AsyncIterator[World]:
        settings = imaging_settings(**changes)
        async with (
            build(settings, keys=keys) as parts,
            running(parts, settings),
            _world(settings, parts) as world,
        ):
            await parts.bus.wait_connected()
            yield world

    return begin


@pytest.fixture
async def world(start: Start) -> AsyncIterator[World]:
    """A service with ordinary settings."""
    ready: asyncio.Future[World] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    # A task group must be left by the task that entered it, and a fixture's halves are two tasks.
    async def hold() -> None:
        async with start() as found:
            ready.set_result(found)
            await done.wait()

    holding = asyncio.create_task(hold())
    both: set[asyncio.Future[Any]] = {holding, ready}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if holding.done():
        await holding
    yield await ready
    done.set()
    await holding


@pytest.fixture
def outside(imaging_settings: Callable[..., Settings]) -> Start:
    """The world around a service that runs elsewhere, or not at all."""

    @asynccontextmanager
    async def begin(**changes: Any) -> AsyncIterator[World]:
        async with _world(imaging_settings(**changes), None) as world:
            yield world

    return begin


@pytest.fixture
async def jwks_url() -> AsyncIterator[str]:
    """Broker's keys, served as broker serves them, for a service in a process of its own."""
    body = json.dumps(SIGNER.jwks()).encode()
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    server.close()
    await server.wait_closed()
