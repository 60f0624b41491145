"""A private PostgreSQL: its own directory and port, loopback only, nothing of the machine's own."""

from __future__ import annotations

import os
import re
import secrets
import signal
from pathlib import Path

from roost_lab.errors import LabError
from roost_lab.process import Daemon, as_user, dies_with_starter, find, give_to, run, wait_for

SUPERUSER = "roost"
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "128MB",
}
"""A crash of the machine may lose everything, one of PostgreSQL what it committed just before; and
its files stay small enough for memory."""
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class PostgresServer:
    """One PostgreSQL under ``root``, as the user ``postgres`` when the caller is root.

    ``durable=False`` and ``tied=True`` are for tests: no write waits for the disk, and the server
    dies with the thread that started it, however that one ends.
    """

    user = "postgres"

    def __init__(self, root: Path, port: int, *, durable: bool = True, tied: bool = False) -> None:
        self.root = root.absolute()
        self.port = port
        self.durable = durable
        self.tied = tied
        self.data = self.root / "data"
        self.log = self.root / "postgres.log"
        self.daemon = Daemon("PostgreSQL", self.root / "postgres.pid", self.log)
        self._password_file = self.root / "password"

    @property
    def password(self) -> str:
        """The superuser's password; made with the data directory."""
        return self._password_file.read_text().strip()

    def url(
        self,
        database: str,
        driver: str = "postgresql+asyncpg",
        *,
        user: str = SUPERUSER,
        password: str | None = None,
    ) -> str:
        """An SQLAlchemy address; as the superuser where no other user is named."""
        secret = self.password if password is None else password
        return f"{driver}://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the data directory where there is none, and clear what a crash left."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        if self.daemon.pid is None:
            self._forget_dead_postmaster()

    def command(self) -> list[str]:
        """The argv of the server in the foreground."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            # A socket's path has at most 107 bytes, and test directories are deep.
            "unix_socket_directories": "",
            "max_connections": "300",
            "shared_buffers": "64MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if self.durable else _FAST),
        }
        words = [str(_binary("postgres")), "-D", str(self.data)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        # "Immediate shutdown": its own children are gone before it is.
        tie = dies_with_starter(signal.SIGQUIT) if self.tied else []
        return [*as_user(self.user, self.data), *tie, *words]

    def environment(self) -> dict[str, str]:
        """The whole environment of the server."""
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "HOME": str(self.root)}

    def start(self, *, timeout_s: float = 60) -> None:
        """Start it and wait until it answers; nothing where it runs already."""
        self.prepare()
        self.daemon.start(self.command(), self.environment())
        self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = 60, supervised: bool = False) -> None:
        """Wait until it answers; ``supervised`` where somebody else started it."""
        wait_for(
            f"PostgreSQL on port {self.port}",
            self.answers,
            timeout_s=timeout_s,
            log=self.log,
            gave_up=lambda: None if supervised or self.daemon.pid else "it ended",
        )

    def stop(self) -> None:
        """Stop it: open connections are ended, what was committed is kept."""
        self.daemon.stop(signal.SIGINT)  # "fast shutdown" in PostgreSQL's words

    def answers(self) -> bool:
        """Whether *this* server answers: another one on the port has another password."""
        try:
            return self.sql("select 1") == "1"
        except LabError:
            return False

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run statements as the superuser; the rows as text, a line each."""
        return run(
            [
                *(_binary("psql"), "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"),
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", database),
                *("-f", "-"),
            ],
            env=self.environment() | {"PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5"},
            stdin=statement,
        ).strip()

    def create_role(self, name: str, password: str) -> None:
        """Make a role that may log in, or give the one that is there this password."""
        _check(name)
        secret = password.replace("'", "''")
        known = self.sql(f"select 1 from pg_roles where rolname = '{name}'")
        verb = "alter" if known else "create"
        self.sql(f"{verb} role {name} login password '{secret}'")

    def create_database(self, name: str) -> None:
        """Make a database where there is none of this name."""
        _check(name)
        if not self.sql(f"select 1 from pg_database where datname = '{name}'"):
            self.sql(f"create database {name}")

    def create_schema(self, database: str, schema: str, owner: str) -> None:
        """Give ``owner`` a schema of its own; its unqualified names mean that schema."""
        for name in (database, schema, owner):
            _check(name)
        self.sql(
            # CREATE SCHEMA IF NOT EXISTS, with which migrations begin, asks for the right to
            # create even where the schema is there.
            f"grant connect, create, temporary on database {database} to {owner};"
            f"create schema if not exists {schema} authorization {owner};"
            f"alter role {owner} in database {database} set search_path = {schema};",
            database,
        )

    def drop_database(self, name: str) -> None:
        """Take a database away, whoever is connected to it."""
        _check(name)
        self.sql(f"drop database if exists {name} with (force)")

    def _initialise(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        secret = secrets.token_urlsafe(24)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secret + "\n")
        give_to(self.user, self.data, self._password_file)
        for leftover in self.data.iterdir():
            # An initdb that was interrupted removes its files; one that was killed does not.
            run(["rm", "-rf", "--", leftover])
        run(
            [
                *as_user(self.user, self.data),
                *(_binary("initdb"), "-D", self.data, "-U", SUPERUSER, "-A", "scram-sha-256"),
                *("--pwfile", self._password_file, "-E", "UTF8", "--locale=C.UTF-8"),
                *(() if self.durable else ("--no-sync",)),
            ],
            env=self.environment(),
            cwd=Path("/"),
        )

    def _forget_dead_postmaster(self) -> None:
        """A pid file of a killed server stops the next when its pid lives on as somebody else."""
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = pid_file.read_text().split("\n", 1)[0]
        command = Path(f"/proc/{pid}/cmdline")
        if not command.exists() or str(self.data) not in command.read_text():
            pid_file.unlink()


def _binary(name: str) -> Path:
    # Debian keeps the servers of each major version apart and off the PATH.
    versions = sorted(
        Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: -int(path.parent.name)
    )
    return find(name, *versions)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no PostgreSQL name that needs no quoting")
