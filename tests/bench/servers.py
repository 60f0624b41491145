"""Private PostgreSQL and RabbitMQ for a measurement, as durable as a deployment's."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roost_lab.postgres import PostgresServer
from roost_lab.rabbitmq import RabbitServer


@dataclass(frozen=True)
class Servers:
    """Where the two are."""

    postgres: PostgresServer
    amqp_url: str


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def servers() -> Iterator[Servers]:
    """Both, running."""
    with tempfile.TemporaryDirectory(prefix="roost-bench-") as name:
        root = Path(name)
        root.chmod(0o755)
        permission = {"user": "bench", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": "bench", "password": "bench", "tags": ["administrator"]}],
            "vhosts": [{"name": "/"}],
            "permissions": [permission],
        }
        postgres = PostgresServer(root / "postgres", free_port())
        rabbit = RabbitServer(root / "rabbit", free_port(), free_port(), definitions)
        postgres.start()
        try:
            rabbit.start()
            try:
                yield Servers(postgres, rabbit.url("bench", "bench"))
            finally:
                rabbit.stop()
        finally:
            postgres.stop()
