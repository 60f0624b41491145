"""The process supervisor: what it is told (pure), and the lab's talk with it.

It is Supervisor (supervisord.org), once for the lab and once as the init of every node.
"""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost_lab.errors import LabError
from roost_lab.process import wait_for

Check = Callable[[], bool]
Reason = Callable[[], str | None]
RUNNING = "RUNNING"
ALIVE = frozenset({"STARTING", "RUNNING", "STOPPING", "BACKOFF"})
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
"""Faults of its XML-RPC interface (supervisor.xmlrpc.Faults)."""


@dataclass(frozen=True)
class Program:
    """One process to keep."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    autostart: bool = False
    restart: bool = True
    """Whether it is started again when it ends by itself."""
    stop_signal: str = "TERM"
    stop_wait_s: int = 30
    kill_group: bool = True
    """Whether the processes it started are killed with it when it does not stop in time."""
    stop_group: bool = False
    """Whether the processes it started get the stop signal too."""
    priority: int = 500


def render(
    programs: Iterable[Program], *, socket_file: Path, pid_file: Path, log: Path, dies: bool = True
) -> str:
    """The text of supervisord.conf.

    ``dies``: the programs are killed when supervisord is (setpriv(1), --pdeathsig), so that
    nothing outlives it unsupervised.
    """
    parts = [
        f"""[unix_http_server]
file={_value(socket_file)}
chmod=0700

[supervisord]
nodaemon=true
user=root
pidfile={_value(pid_file)}
logfile={_value(log)}
logfile_maxbytes=5MB
logfile_backups=1
loglevel=info
strip_ansi=true

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{_value(socket_file)}
"""
    ]
    parts += [_section(program, dies) for program in programs]
    return "\n".join(parts)


def _section(program: Program, dies: bool) -> str:
    command = program.command
    if dies:
        # The kernel forgets the signal when the user changes: one setpriv has to do both.
        rest = command[1:] if command[0] == "setpriv" else command
        command = ("setpriv", "--pdeathsig", "KILL", *rest)
    lines = [
        f"[program:{program.name}]",
        "command=" + " ".join(_word(word) for word in command),
        f"directory=/\numask=022\npriority={program.priority}",
        f"autostart={_yes(program.autostart)}",
        f"autorestart={_yes(program.restart)}",
        # A program whose server is not there yet tries again, for ever and ever slower.
        f"startsecs=1\nstartretries={1000 if program.restart else 0}",
        f"stopsignal={program.stop_signal}\nstopwaitsecs={program.stop_wait_s}",
        f"stopasgroup={_yes(program.stop_group)}\nkillasgroup={_yes(program.kill_group)}",
        f"stdout_logfile={_value(program.log)}",
        "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=1\nredirect_stderr=true",
    ]
    if program.environment:
        pairs = (f"{name}={_quoted(text)}" for name, text in sorted(program.environment.items()))
        lines.append("environment=" + ",".join(pairs))
    return "\n".join(lines) + "\n"


def _value(text: object) -> str:
    # %(name)s is expanded and " ;" begins a comment.
    return str(text).replace("%", "%%")


def _quoted(text: str) -> str:
    if '"' in text or "\n" in text or "\\" in text:
        raise LabError(f"{text!r} cannot be written into a supervisor's configuration")
    return f'"{_value(text)}"'


def _word(text: str) -> str:
    return _value(text) if text and not set(text) & set(" \t;'\"\\") else _quoted(text)


def _yes(value: bool) -> str:
    return "true" if value else "false"


class Supervisor:
    """A running supervisord, by its socket."""

    def __init__(self, socket_file: Path, log: Path) -> None:
        self._socket = socket_file
        self._log = log
        self._rpc = xmlrpc.client.ServerProxy(
            "http://localhost/RPC2", transport=_UnixTransport(socket_file)
        )

    def answers(self) -> bool:
        """Whether it is there and has come up."""
        try:
            return bool(self._call("getState")["statename"] == RUNNING)
        except LabError:
            return False

    def states(self) -> dict[str, str]:
        """State by program: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL."""
        return {info["name"]: info["statename"] for info in self._call("getAllProcessInfo")}

    def state(self, program: str) -> str:
        """One program's state; STOPPED for one it does not know."""
        return self.states().get(program, "STOPPED")

    def pid(self, program: str) -> int | None:
        """One program's process id as the supervisor sees it, or None when it does not run."""
        return int(self._call("getProcessInfo", program)["pid"]) or None

    def update(self) -> None:
        """Read its configuration again: end what changed or went, know what is new."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in [*changed, *removed]:
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in [*added, *changed]:
            self._call("addProcessGroup", name)

    def start(self, program: str) -> None:
        """Start a program; nothing where it runs. It may still be failing and be tried again."""
        self._call("startProcess", program, False, ignore=_ALREADY_STARTED)

    def stop(self, program: str) -> None:
        """Stop a program and wait for its end; nothing where it does not run."""
        self._call("stopProcess", program, True, ignore=_NOT_RUNNING)

    def stop_together(self, programs: Iterable[str], timeout_s: float = 60) -> None:
        """Stop several programs at once and wait for the end of all."""
        names = set(programs) & self.states().keys()
        for name in names:
            self._call("stopProcess", name, False, ignore=_NOT_RUNNING)

        def stopped() -> bool:
            states = self.states()
            return not any(states[name] in ALIVE for name in names)

        wait_for("the services stop", stopped, timeout_s=timeout_s, log=self._log)

    def restart(self, program: str) -> None:
        """Stop a program and wait until it runs again."""
        self.stop(program)
        self.start(program)
        self.wait_until(program, {RUNNING})

    def kill(self, program: str) -> None:
        """SIGKILL to a program's process; nothing where it does not run."""
        self.signal(program, "KILL")

    def signal(self, program: str, name: str) -> None:
        """A signal (``STOP``, ``CONT`` …) to a program's process; nothing where it does not run."""
        self._call("signalProcess", program, name, ignore=_NOT_RUNNING)

    def wait_until(self, program: str, states: Iterable[str], timeout_s: float = 60) -> None:
        """Wait until a program is in one of these states."""
        wanted = frozenset(states)
        wait_for(
            f"{program} {'/'.join(sorted(wanted)).lower()}",
            lambda: self.state(program) in wanted,
            timeout_s=timeout_s,
            log=self._log,
        )

    def shut_down(self) -> None:
        """End all programs and the supervisor itself; returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object, ignore: int = 0) -> Any:
        try:
            return getattr(self._rpc.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == ignore:
                return None
            raise LabError(f"supervisor: {method}: {fault.faultString}", self._log) from fault
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"the supervisor does not answer ({error})", self._log) from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
