"""The servers that tests run against: real ones, private to the run, ended with it in any way."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from tests.needs import require

ROOT = Path(__file__).parent.parent
# The lab is not a distribution; its servers are the tests' servers.
sys.path.insert(0, str(ROOT / "deploy" / "lab"))

from roost_common import log  # noqa: E402
from roost_common.db import Migrations  # noqa: E402
from roost_lab.postgres import PostgresServer  # noqa: E402
from roost_lab.rabbitmq import RabbitServer  # noqa: E402

SERVERS = "roost-servers"
ROOM_IN_MEMORY = 8 * 2**30

_numbers = count()
NewDatabase = Callable[[Migrations], Awaitable[str]]


def free_port() -> int:
    """A port of loopback that nobody else is given as long as this process lives.

    It stays bound, without listening: the kernel gives it to nobody who asks for any port, and to
    nobody who asks for this one except with SO_REUSEADDR, as servers do (socket(7)).
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port: int = holder.getsockname()[1]
    holder.detach()  # open until the process ends, and nobody's to close
    return port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first: else everybody waits for it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_collection_finish() -> None:
    """What has been imported stays for as long as the run, and is no garbage to look through."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _logs() -> None:
    """Logs as a service writes them: without them structlog draws tracebacks, for seconds."""
    log.configure("test", "info")


def _in_memory() -> Path | None:
    """Where files cost no disk, if there is room for what the servers of a few runs write.

    Every test's database is three hundred files that come and go: most of what PostgreSQL costs.
    """
    memory = Path("/dev/shm")
    room = memory.is_dir() and shutil.disk_usage(memory).free >= ROOM_IN_MEMORY
    # What a file system in memory allows is not what there is.
    return memory if room and psutil.virtual_memory().available >= ROOM_IN_MEMORY else None


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """Where servers keep their files; open to the users they run as, unlike pytest's own."""
    home = _in_memory() or Path(tempfile.gettempdir())
    for left in home.glob(f"{SERVERS}-*-*"):
        # Of a run that was killed: what it wrote may take memory.
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{SERVERS}-{os.getpid()}-", dir=home) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
def postgres(servers_dir: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL of this run."""
    require("psql")
    server = PostgresServer(servers_dir / "postgres", free_port(), durable=False, tied=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbit(servers_dir: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ of this run, with one user."""
    require("rabbitmq-server")
    server = RabbitServer(
        servers_dir / "rabbit",
        free_port(),
        free_port(),
        {"users": [{"name": "test", "password": "test", "tags": ["administrator"]}]},
        epmd_port=free_port(),
        management_port=free_port(),
        tied=True,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _management(rabbit: RabbitServer) -> Iterator[httpx.Client]:
    """Its HTTP API: what takes rabbitmqctl seconds takes milliseconds here."""
    url = f"http://127.0.0.1:{rabbit.management_port}/api"
    with httpx.Client(base_url=url, auth=("test", "test"), timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def amqp_url(rabbit: RabbitServer, _management: httpx.Client) -> Iterator[str]:
    """A bus of this test's own: a virtual host, which goes with it.

    Who makes it may do everything in it. A server with many is slow: each makes the next dearer.
    """
    name = f"t{next(_numbers)}"
    _management.put(f"/vhosts/{name}").raise_for_status()
    yield rabbit.url("test", "test", name)
    _management.delete(f"/vhosts/{name}").raise_for_status()


@pytest.fixture(scope="session")
def _templates(postgres: PostgresServer) -> dict[str, str]:
    """Migrated databases by schema, from which the tests' are cloned."""
    return {}


@pytest.fixture
async def new_database(
    postgres: PostgresServer, _templates: dict[str, str]
) -> AsyncIterator[NewDatabase]:
    """Makes databases that are migrated and empty; they go with the test."""
    made: list[str] = []

    async def make(migrations: Migrations) -> str:
        template = _templates.get(migrations.schema)
        if template is None:
            template = f"template_{migrations.schema}"
            postgres.create_database(template)
            await migrations.upgrade(postgres.url(template))
            _templates[migrations.schema] = template
        name = f"test_{migrations.schema}_{next(_numbers)}"
        # Files are copied faster than blocks are logged, where nothing waits for the disk.
        await sql(f"create database {name} template {template} strategy file_copy")
        made.append(name)
        return postgres.url(name)

    async def sql(statement: str) -> None:
        # Half of what psql costs, a thousand times.
        connection = await asyncpg.connect(postgres.url("postgres", driver="postgresql"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    yield make
    for name in made:
        await sql(f"drop database {name} with (force)")
