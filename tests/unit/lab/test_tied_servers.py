"""Servers of a test run: their ports are nobody else's, and they end however the run ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.conftest import ROOT, free_port

from roost_lab.postgres import PostgresServer
from roost_lab.process import as_user, dies_with_starter, wait_for
from roost_lab.rabbitmq import RabbitServer

STARTER = """
import json, pathlib, signal, sys
from roost_lab.process import Daemon
directory, words = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
daemon = Daemon("sleeper", directory / "pid", directory / "log")
daemon.start(words, {"PATH": "/usr/bin:/bin"})
print(daemon.pid, flush=True)
signal.pause()
"""


def runs(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def killed_under(tmp_path: Path, words: Sequence[str]) -> int:
    """The pid of a daemon whose starter is killed once the daemon is the program it is to be."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, tmp_path, json.dumps(words)],
        env={"PYTHONPATH": str(ROOT / "deploy" / "lab"), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    with starter.stdout as said:
        pid = int(said.readline())
    name = Path(f"/proc/{pid}/comm")
    wait_for("the program begins", lambda: name.read_text() == "sleep\n", timeout_s=20)
    starter.kill()
    starter.wait(timeout=20)
    return pid


@pytest.mark.parametrize("user", [None, "nobody"])
def test_a_tied_program_ends_with_its_starter(tmp_path: Path, user: str | None) -> None:
    before = [] if user is None else as_user(user)
    words = [*before, *dies_with_starter(signal.SIGKILL), "sleep", "60"]
    pid = killed_under(tmp_path, words)
    wait_for("the program ends", lambda: not runs(pid), timeout_s=20)


def test_any_other_outlives_its_starter(tmp_path: Path) -> None:
    pid = killed_under(tmp_path, ["sleep", "60"])
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


def test_only_a_tests_servers_are_tied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("postgres", "rabbitmq"):
        monkeypatch.setattr(f"roost_lab.{module}.as_user", lambda *_: ["as-user"])
        monkeypatch.setattr(f"roost_lab.{module}.find", lambda name, *_: Path(name))
    for is_tied in (False, True):
        postgres = PostgresServer(tmp_path / "pg", 1, tied=is_tied)
        rabbit = RabbitServer(tmp_path / "mq", 2, 3, tied=is_tied)
        for words in (postgres.command(), rabbit.command(), rabbit.epmd_command()):
            assert words[0] == "as-user"
            assert (words[1:3] == ["setpriv", "--pdeathsig"]) is is_tied
        assert ("ERL_FLAGS" in rabbit.environment()) is is_tied


def test_the_port_mapper_has_the_port_it_is_given(tmp_path: Path) -> None:
    rabbit = RabbitServer(tmp_path, 2, 3, epmd_port=9)
    assert rabbit.environment()["ERL_EPMD_PORT"] == "9"
    assert RabbitServer(tmp_path, 2, 3).environment()["ERL_EPMD_PORT"] == "4"


def test_a_port_that_was_given_is_nobody_elses() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
