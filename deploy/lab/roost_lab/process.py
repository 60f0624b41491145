"""Processes of the lab: run one to its end, keep one by a pid file, wait for something."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from roost_lab.errors import LabError

POLL_S = 0.1
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Servers live in the sbin directories, which are not on every PATH."""


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    timeout_s: float = 120,
) -> str:
    """Run a program to its end and give back its standard output.

    ``LabError`` when it fails, with the last lines of what it said.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env=None if env is None else dict(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(words)} did not end within {timeout_s:g} s") from error
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise LabError(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


def find(program: str, *directories: str | Path) -> Path:
    """The path of an installed program, looked for in ``directories`` and the system's own."""
    path = os.pathsep.join([*map(str, directories), SYSTEM_PATH])
    found = shutil.which(program, path=path)
    if found is None:
        raise LabError(f"{program} is not installed")
    return Path(found)


def wait_for(
    what: str,
    check: Callable[[], bool],
    *,
    timeout_s: float,
    log: Path | None = None,
    gave_up: Callable[[], str | None] = lambda: None,
) -> None:
    """Poll ``check`` until it is true.

    ``LabError`` at the deadline, or as soon as ``gave_up`` says why waiting is of no use.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        reason = gave_up()
        if reason is not None:
            raise LabError(f"{what}: {reason}", log)
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s", log)
        time.sleep(POLL_S)


def listens(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        # As servers do: connections that have just been closed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _started_at(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; ``None`` where it is gone or a zombie.

    proc(5): field 22 of /proc/PID/stat. Together with the pid it names one process for ever.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


class Daemon:
    """One process that outlives its starter, known again by a file with its pid and start time.

    The file makes starting idempotent across processes, and a pid that the kernel has given to
    somebody else since is never mistaken for ours.
    """

    def __init__(self, name: str, pid_file: Path, log: Path) -> None:
        self.name = name
        self.pid_file = pid_file
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, or ``None`` when it does not run."""
        self._reap()
        try:
            text = self.pid_file.read_text().split()
        except FileNotFoundError:
            return None
        if len(text) != 2:
            return None
        if _started_at(int(text[0])) == text[1]:
            return int(text[0])
        self._reap()
        return None

    def _reap(self) -> None:
        """Take leave of a child that has ended, so that no zombie of it stays."""
        if self._child is not None and _started_at(self._child.pid) is None:
            self._child.wait()
            self._child = None

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> bool:
        """Start it; false when it runs already."""
        if self.pid is not None:
            return False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(word) for word in argv],
                env=dict(env),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = _started_at(self._child.pid)
        if started is not None:
            self.pid_file.write_text(f"{self._child.pid} {started}\n")
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30) -> None:
        """End it and all of its session; by force after ``timeout_s``."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, how)
            deadline = time.monotonic() + timeout_s
            while self.pid is not None:
                if time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)
                    deadline = time.monotonic() + timeout_s
                time.sleep(POLL_S)
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, as the machine's out-of-memory killer would; the pid file stays."""
        pid = self.pid
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)
            wait_for(f"{self.name} dies", lambda: self.pid is None, timeout_s=10)


def as_user(user: str, *reachable: Path) -> list[str]:
    """The words before a command that make root run it as ``user``; none for anybody else.

    A checkout may lie under a home directory that ``user`` may not pass. Where it does, the
    command keeps the one capability of walking through (capabilities(7), CAP_DAC_READ_SEARCH).
    """
    if os.geteuid() != 0:
        return []
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise LabError(f"there is no user {user!r} on this machine") from error
    words = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    if not all(_may_pass(path, entry.pw_uid, entry.pw_gid) for path in reachable):
        words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return words


def dies_with_starter(end: signal.Signals) -> list[str]:
    """The words before a command that send it ``end`` when the thread that started it ends.

    They come after those of `as_user`: changing the user unties (prctl(2), PR_SET_PDEATHSIG).
    """
    return ["setpriv", "--pdeathsig", end.name.removeprefix("SIG")]


def _may_pass(path: Path, uid: int, gid: int) -> bool:
    for directory in path.absolute().parents:
        stat = directory.stat() if directory.exists() else None
        if stat is None:
            continue
        bit = 0o100 if stat.st_uid == uid else 0o010 if stat.st_gid == gid else 0o001
        if not stat.st_mode & bit:
            return False
    return True


def give_to(user: str, *paths: Path) -> None:
    """Make the directories and files of a server its own; root only, nothing for anybody else."""
    if os.geteuid() == 0:
        for path in paths:
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
