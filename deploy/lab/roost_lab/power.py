"""Power over a process tree that plays a machine: on, off, and certainty about which.

The tree is one program of the lab's supervisor, ``unshare --pid … supervisord``: when it is killed
the kernel kills everything in its PID namespace at once, which is what losing power is. The lab
does not start a dead machine again by itself. Needs the standard library alone: the fence agent
runs it in the system's Python.
"""

from __future__ import annotations

from pathlib import Path

from roost_lab import supervisor
from roost_lab.errors import LabError
from roost_lab.process import wait_for
from roost_lab.supervisor import Check, Supervisor


class Power:
    """The power supply of one machine; ``init`` is the supervisor inside it."""

    def __init__(self, name: str, supply: Supervisor, init: Supervisor, log: Path) -> None:
        self.name = name
        self.init = init
        self._supply = supply
        self._log = log

    @property
    def on(self) -> bool:
        """Whether anything of it runs."""
        return self._supply.state(self.name) in supervisor.ALIVE

    def switch_on(self, socket_file: Path) -> bool:
        """Start its tree; false where it runs. ``socket_file`` is init's, which is in the way."""
        if self.on:
            return False
        socket_file.unlink(missing_ok=True)
        self._supply.start(self.name)
        return True

    def wait(self, up: Check, timeout_s: float = 60) -> None:
        """Wait until init answers and ``up`` says so, too."""
        wait_for(
            f"{self.name} boots",
            lambda: self.init.answers() and up(),
            timeout_s=timeout_s,
            log=self._log,
            gave_up=self._dead,
        )

    def _dead(self) -> str | None:
        state = self._supply.state(self.name)
        return None if state in supervisor.ALIVE else f"it ended ({state.lower()})"

    def switch_off(self) -> None:
        """SIGKILL to everything on it; returns when nothing is left."""
        space = self._pid_namespace()
        self._supply.kill(self.name)
        wait_for(
            f"{self.name} dies",
            lambda: not self.on and not _alive(space),
            timeout_s=20,
            log=self._log,
        )

    def init_pid(self) -> int:
        """The first process inside; ``LabError`` where it is off."""
        pid = self._supply.pid(self.name)
        children = _children(pid) if pid is not None else []
        if not children:
            raise LabError(f"{self.name} is off")
        return children[0]

    def _pid_namespace(self) -> str | None:
        """The PID namespace of what the lab's supervisor keeps for it."""
        pid = self._supply.pid(self.name)
        if pid is None:
            return None
        try:
            return str(Path(f"/proc/{pid}/ns/pid_for_children").readlink())
        except OSError:
            return None  # it ended while we looked


def _children(pid: int) -> list[int]:
    """The processes a process has started (proc(5), /proc/PID/task/TID/children)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(space: str | None) -> bool:
    """Whether any process is left in a PID namespace."""
    if space is None:
        return False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "ns/pid").readlink()) == space:
                return True
        except OSError:
            continue  # it ended while we looked
    return False
