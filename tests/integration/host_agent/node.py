"""A node's processes, of which some are real and some only look so; they end with the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID


class NodeProcesses:
    """What runs on a node whose files lie in ``home``; all of it writes to one log."""

    def __init__(
        self, home: Path, stack: ExitStack, environment: Mapping[str, str] | None = None
    ) -> None:
        self.lease = home / "lease.json"
        self._log = home / "log"
        self._stack = stack
        self._environment = environment

    def start(self, *argv: str, executable: str | None = None) -> subprocess.Popen[bytes]:
        """A process that is killed at the end of the test."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                argv, executable=executable, env=self._environment, stderr=log
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def module(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A program of Roost."""
        return self.start(sys.executable, "-m", name, *arguments)

    def domain(self, uuid: UUID) -> subprocess.Popen[bytes]:
        """What looks like the QEMU process of this domain, and does nothing."""
        argv = ("qemu-system-x86_64", "-c", "import signal; signal.pause()", "-uuid", str(uuid))
        return self.start(*argv, executable=sys.executable)

    @property
    def log(self) -> str:
        """All that they have written."""
        return self._log.read_text()
