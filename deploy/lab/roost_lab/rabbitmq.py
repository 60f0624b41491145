"""A private RabbitMQ: its own node, directory and ports, and an epmd that ends with it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from roost_lab.process import (
    Daemon,
    as_user,
    dies_with_starter,
    find,
    give_to,
    listens,
    run,
    wait_for,
)

_BIN = "/usr/lib/rabbitmq/bin"
"""The scripts themselves: those on the PATH are wrappers that insist on the system's node."""


class RabbitServer:
    """One RabbitMQ under ``root``, as the user ``rabbitmq`` when the caller is root.

    ``dist_port`` is for Erlang's distribution and ``epmd_port``, the next one where none is given,
    for its port mapper; both are on loopback only. ``addresses`` are where AMQP listens.
    With a ``management_port`` the HTTP API of RabbitMQ's management plugin answers there.
    ``definitions`` (users, permissions, exchanges …, see :mod:`roost_lab.rabbit_definitions`) are
    applied at every start. ``tied=True`` is for tests: server and port mapper die with the thread
    that started them, however that one ends.
    """

    user = "rabbitmq"

    def __init__(
        self,
        root: Path,
        port: int,
        dist_port: int,
        definitions: Mapping[str, Any] | None = None,
        *,
        addresses: Sequence[str] = ("127.0.0.1",),
        epmd_port: int | None = None,
        management_port: int | None = None,
        tied: bool = False,
    ) -> None:
        self.root = root.absolute()
        self.port = port
        self.dist_port = dist_port
        self.epmd_port = dist_port + 1 if epmd_port is None else epmd_port
        self.management_port = management_port
        self.tied = tied
        self.definitions = definitions
        self.addresses = tuple(addresses)
        self.node = f"roost-{port}@localhost"
        self._definitions_file = self.root / "definitions.json"
        self.logs = self.root / "log"
        self.log = self.logs / "console.log"
        self.daemon = Daemon("RabbitMQ", self.root / "rabbitmq.pid", self.log)
        self.epmd = Daemon("epmd", self.root / "epmd.pid", self.logs / "epmd.log")

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        """An AMQP address on loopback."""
        return amqp_url("127.0.0.1", self.port, user, password, vhost)

    def prepare(self) -> bool:
        """Write its configuration; true when the definitions are not those of the last time."""
        old = self._definitions_file.read_text() if self._definitions_file.exists() else None
        for directory in (self.root, self.logs, self.root / "mnesia"):
            directory.mkdir(parents=True, exist_ok=True)
        cookie = self.root / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        plugins = "" if self.management_port is None else "rabbitmq_management"
        self._write("enabled_plugins", f"[{plugins}].\n")
        self._write("rabbitmq.conf", self.configuration())
        new = None if self.definitions is None else json.dumps(self.definitions, indent=2)
        if new is not None:
            self._write(self._definitions_file.name, new)
        give_to(self.user, *[self.root, *self.root.iterdir()])
        return new != old

    def apply_definitions(self) -> None:
        """Let the running server take over definitions that have changed."""
        self.ctl("import_definitions", str(self._definitions_file))

    def configuration(self) -> str:
        """The text of rabbitmq.conf."""
        lines = [
            *(
                f"listeners.tcp.{number} = {address}:{self.port}"
                for number, address in enumerate(self.addresses, 1)
            ),
            # The machine's memory is not the lab's: a small share before publishers are held.
            "vm_memory_high_watermark.relative = 0.2",
            "disk_free_limit.absolute = 200MB",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
        ]
        if self.management_port is not None:
            lines += [
                "management.tcp.ip = 127.0.0.1",
                f"management.tcp.port = {self.management_port}",
                # For who makes and removes things; nobody looks at figures.
                "management_agent.disable_metrics_collector = true",
            ]
        if self.definitions is not None:
            lines.append(f"load_definitions = {self._definitions_file}")
        return "\n".join(lines) + "\n"

    def command(self) -> list[str]:
        """The argv of the server in the foreground."""
        return [*self._before(), str(find("rabbitmq-server", _BIN))]

    def epmd_command(self) -> list[str]:
        """The argv of its Erlang port mapper in the foreground."""
        return [
            *self._before(),
            *(str(find("epmd")), "-port", str(self.epmd_port), "-address", "127.0.0.1"),
        ]

    def _before(self) -> list[str]:
        return [
            *as_user(self.user, self.root / "log"),
            *(dies_with_starter(signal.SIGKILL) if self.tied else ()),
        ]

    def environment(self) -> dict[str, str]:
        """The whole environment of the server, of epmd and of rabbitmqctl."""
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        # Idle Erlang schedulers must not spin on a small machine: erl(1), +sbwt.
        idle = "+sbwt none +sbwtdcpu none +sbwtdio none"
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.root),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.root / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.logs),
            "RABBITMQ_PID_FILE": str(self.root / "mnesia" / "node.pid"),
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} {idle}",
            # Nor sit on processors of their own: they are not alone here.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Makes the start script become the server instead of staying its parent, so that a
            # signal to the pid we know reaches Erlang.
            "RUNNING_UNDER_SYSTEMD": "true",
            # Any Erlang that misses the port mapper starts one that nobody ends.
            **({"ERL_FLAGS": "-start_epmd false"} if self.tied else {}),
        }

    def start(self, *, timeout_s: float = 120) -> None:
        """Start it and wait until AMQP answers; nothing where it runs already."""
        self.prepare()
        self.epmd.start(self.epmd_command(), self.environment())
        wait_for(
            f"epmd on port {self.epmd_port}",
            lambda: listens(self.epmd_port),
            timeout_s=timeout_s,
            log=self.epmd.log,
            gave_up=lambda: None if self.epmd.pid else "it ended",
        )
        self.daemon.start(self.command(), self.environment())
        self.wait(timeout_s=timeout_s)
        # It listens a moment before quorum queues can be declared.
        self.ctl("await_startup")

    def wait(self, *, timeout_s: float = 120, supervised: bool = False) -> None:
        """Wait until AMQP answers; ``supervised`` where somebody else started it."""
        wait_for(
            f"RabbitMQ on port {self.port}",
            self.answers,
            timeout_s=timeout_s,
            log=self.log,
            gave_up=lambda: None if supervised or self.daemon.pid else "it ended",
        )

    def stop(self) -> None:
        """Stop it and its epmd."""
        self.daemon.stop(signal.SIGTERM, timeout_s=60)
        self.epmd.stop(signal.SIGTERM)

    def answers(self) -> bool:
        """Whether AMQP answers on loopback."""
        return amqp_answers("127.0.0.1", self.port)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and give back what it prints."""
        words = [*as_user(self.user, self.root / "log"), str(find("rabbitmqctl", _BIN)), "-q"]
        return run([*words, *arguments], env=self.environment(), cwd=Path("/"))

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.touch(mode=0o600)
        path.write_text(text)


def amqp_url(host: str, port: int, user: str, password: str, vhost: str = "/") -> str:
    """An AMQP address; the vhost ``/`` is written ``%2F`` as the AMQP URI specification has it."""
    return f"amqp://{quote(user, '')}:{quote(password, '')}@{host}:{port}/{quote(vhost, '')}"


def amqp_answers(host: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 server greets with Connection.Start (class 10, method 10)."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            frame = b""
            while len(frame) < 11:
                part = connection.recv(11 - len(frame))
                if not part:
                    return False
                frame += part
    except OSError:
        return False
    return frame[0] == 1 and frame[7:11] == b"\x00\x0a\x00\x0a"
