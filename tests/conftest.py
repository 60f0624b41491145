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
MORE_VHOSTS = 24
"""At once, when those that were made with the server have been used up."""
_VHOSTS = """
    lists:foreach(
        fun(N) ->
            V = list_to_binary("t" ++ integer_to_list(N)), U = <<"test">>, A = <<".*">>,
            rabbit_vhost:add(V, U),
            rabbit_auth_backend_internal:set_permissions(U, V, A, A, A, U)
        end,
        lists:seq(%d, %d)).
"""

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
def _first_vhosts(request: pytest.FixtureRequest) -> int:
    """How many tests here want one: a share of those that were chosen, if there are workers.

    Made with the server they are far cheaper than one by one, and a tenth of a second each.
    """
    wanted = sum("amqp_url" in getattr(item, "fixturenames", ()) for item in request.session.items)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return wanted if workers == 1 else wanted // workers + MORE_VHOSTS


@pytest.fixture(scope="session")
def rabbit(servers_dir: Path, _first_vhosts: int) -> Iterator[RabbitServer]:
    """A RabbitMQ of this run, with one user and empty virtual hosts."""
    require("rabbitmq-server")
    names = [f"t{number}" for number in range(_first_vhosts)]
    permission = {"user": "test", "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": "test", "password": "test", "tags": ["administrator"]}],
        "vhosts": [{"name": name} for name in names],
        "permissions": [{**permission, "vhost": name} for name in names],
    }
    server = RabbitServer(
        servers_dir / "rabbit",
        free_port(),
        free_port(),
        definitions,
        epmd_port=free_port(),
        tied=True,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _next_vhost(rabbit: RabbitServer, _first_vhosts: int) -> Callable[[], str]:
    numbers = count()

    def take() -> str:
        number = next(numbers)
        if number >= _first_vhosts and (number - _first_vhosts) % MORE_VHOSTS == 0:
            # A start of rabbitmqctl takes seconds; what it does here takes milliseconds.
            rabbit.ctl("eval", _VHOSTS % (number, number + MORE_VHOSTS - 1))
        return f"t{number}"

    return take


@pytest.fixture
def amqp_url(rabbit: RabbitServer, _next_vhost: Callable[[], str]) -> str:
    """A bus of this test's own."""
    return rabbit.url("test", "test", _next_vhost())


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
        postgres.sql(f"create database {name} template {template} strategy file_copy")
        made.append(name)
        return postgres.url(name)

    yield make
    for name in made:
        postgres.drop_database(name)


_numbers = count()
