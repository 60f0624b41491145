"""The lab's PostgreSQL and RabbitMQ as programs of its supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roost_lab import site as sites
from roost_lab import supervisor
from roost_lab.postgres import PostgresServer
from roost_lab.process import wait_for
from roost_lab.progress import say
from roost_lab.rabbitmq import RabbitServer, amqp_answers
from roost_lab.site import Site
from roost_lab.supervisor import Program, Supervisor

NAMES: Final = ("postgres", "epmd", "rabbitmq")
"""In the order in which they are started."""


class Servers:
    """What all services need."""

    def __init__(self, site: Site, keeper: Supervisor) -> None:
        self._paths = site.paths
        self._keeper = keeper
        self.postgres = PostgresServer(site.paths.state / "postgres", sites.POSTGRES_PORT)
        self.rabbit = RabbitServer(
            site.paths.state / "rabbitmq",
            sites.AMQP_PORT,
            sites.ERLANG_PORT,
            addresses=("127.0.0.1", site.network.host_address),
        )
        self._accounts_changed = False

    def prepare(self) -> None:
        """Write their files."""
        self.postgres.prepare()
        ran = self._keeper.answers() and self._keeper.state("rabbitmq") == supervisor.RUNNING
        self._accounts_changed = self.rabbit.prepare() and ran

    def programs(self) -> list[Program]:
        """What the supervisor is to keep."""
        log = self._paths.log
        rabbit = self.rabbit.environment()
        return [
            Program(
                "postgres",
                tuple(self.postgres.command()),
                log("postgres"),
                environment=self.postgres.environment(),
                stop_signal="INT",  # "fast shutdown" in PostgreSQL's words
                priority=100,
            ),
            Program("epmd", tuple(self.rabbit.epmd_command()), log("epmd"), rabbit, priority=110),
            Program(
                "rabbitmq",
                tuple(self.rabbit.command()),
                log("rabbitmq"),
                environment=rabbit,
                stop_wait_s=60,
                priority=120,
            ),
        ]

    def start(self, make_accounts: Callable[[], None]) -> None:
        """Start all; ``make_accounts`` is called as soon as PostgreSQL answers."""
        for name in NAMES:
            self._keeper.start(name)
        say(f"PostgreSQL on 127.0.0.1:{self.postgres.port}")
        self._wait("postgres", self.postgres.answers)
        make_accounts()
        say(f"RabbitMQ on 127.0.0.1:{self.rabbit.port}")
        self._wait("rabbitmq", self._rabbit_answers)
        if self._accounts_changed:
            self.rabbit.apply_definitions()

    def stop(self) -> None:
        """Stop all, in reverse."""
        known = self._keeper.states()
        for name in [name for name in reversed(NAMES) if name in known]:
            say(f"{name} stops")
            self._keeper.stop(name)

    def _rabbit_answers(self) -> bool:
        return all(amqp_answers(address, self.rabbit.port) for address in self.rabbit.addresses)

    def _wait(self, name: str, check: supervisor.Check) -> None:
        def failed() -> str | None:
            return "it does not start" if self._keeper.state(name) == "FATAL" else None

        wait_for(name, check, timeout_s=180, log=self._paths.log(name), gave_up=failed)
