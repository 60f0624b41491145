"""The guard of a node: kills the desktops whose lease has ended, whatever has become of the agent.

``python -m roost_host_agent.guard``, a process of its own, as root, in the PID namespace of the
node's QEMU processes. It reads the lease file that the agent writes and needs nothing else: no
libvirtd, no bus, no network, no agent. An agent that is frozen, dead, or busy cannot lengthen a
lease, because only a newer file with a later deadline does.

It is made of the standard library alone, so that it stays small and has little to fail with.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from roost_host_agent import lease_file, processes
from roost_host_agent.lease_file import LeaseFile

POLL_S: Final = 0.5
"""With this the desktops end within a second of the lease; ha-monitor adds ten."""
KILL_AGAIN_S: Final = 0.1
REMIND_S: Final = 10.0
"""How often the log says that a killed process is still there (waiting for its storage)."""
LEAST_KILLABLE: Final = "-1000"


class Guard:
    """Watches one lease file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lease: LeaseFile | None = None
        self._unreadable = False
        self._unsigned = False
        self._told: dict[int, float] = {}

    def poll(self) -> float:
        """Look once, and do what is to be done; returns after how long to look again."""
        self._read()
        now = lease_file.boot_time()
        left = self._enforce(now)
        try:
            lease_file.leave_sign(self._path, now)
            self._unsigned = False
        except OSError as error:
            if not self._unsigned:
                say("guard.sign-failed", error=str(error))
            self._unsigned = True
        return KILL_AGAIN_S if left else POLL_S

    def _read(self) -> None:
        try:
            found = lease_file.read(self._path)
        except (OSError, ValueError) as error:
            # What was known stays in force.
            if not self._unreadable:
                say("guard.unreadable", path=str(self._path), error=str(error))
            self._unreadable = True
            return
        self._unreadable = False
        # A file that is gone ends no lease.
        if found is not None:
            self._lease = found

    def _enforce(self, now: float) -> bool:
        """Kill what must not run; whether there was anything."""
        lease = self._lease
        if lease is None or not lease.ended(now):
            self._told.clear()
            return False
        names = {domain.uuid: domain.name for domain in lease.domains}
        found = list(processes.of(names)) if names else []
        for process in found:
            try:
                killed = processes.kill(process)
            except OSError as error:
                self._tell(process.pid, now, "guard.kill-failed", error=str(error))
                continue
            if killed:
                # A process that waits for its storage dies only when that answers.
                again = process.pid in self._told
                self._tell(
                    process.pid,
                    now,
                    "guard.remains" if again else "guard.killed",
                    desktop=names[process.uuid],
                    id=process.uuid,
                    late_s=round(now - (lease.deadline or now), 2),
                )
        return bool(found)

    def _tell(self, pid: int, now: float, event: str, **facts: object) -> None:
        if now - self._told.get(pid, float("-inf")) >= REMIND_S:
            self._told[pid] = now
            say(event, pid=pid, **facts)


def say(event: str, **facts: object) -> None:
    """One line of the log, in the form of all of Roost's."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {**facts, "event": event, "service": "host-agent-guard", "timestamp": at}
    with suppress(OSError):
        os.write(2, f"{json.dumps(line)}\n".encode())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs until it is told to end."""
    parser = argparse.ArgumentParser(prog="roost-host-agent-guard", description=__doc__)
    parser.add_argument(
        "--lease-file",
        type=Path,
        default=Path(os.environ.get("ROOST_HOST_AGENT_LEASE_FILE", lease_file.DEFAULT)),
        help="what the agent writes (ROOST_HOST_AGENT_LEASE_FILE)",
    )
    path: Path = parser.parse_args(argv).lease_file
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(OSError):
        # On a node without memory it is needed most.
        Path("/proc/self/oom_score_adj").write_text(LEAST_KILLABLE)
    if stat.S_ISFIFO(os.fstat(2).st_mode):
        # A log that nobody takes any more must not hold up the guard.
        os.set_blocking(2, False)
    guard = Guard(path)
    say("guard.started", path=str(path))
    while True:
        # Until the next look. Nothing could wake it: it must not depend on whom it watches.
        time.sleep(guard.poll())


if __name__ == "__main__":
    main()
