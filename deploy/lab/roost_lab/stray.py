"""Processes of this lab, whoever their parent is: known by a mark in their environment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from roost_lab.paths import Paths
from roost_lab.process import wait_for

MARK = "ROOST_LAB_STATE"
"""Set for the supervisor, inherited by everything below it."""


def processes(paths: Paths) -> dict[int, str]:
    """Command name by pid of every process that carries this lab's mark."""
    mark = f"{MARK}={paths.state}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is somebody else's
    found.pop(os.getpid(), None)
    return found


def end(paths: Paths) -> dict[int, str]:
    """Kill what is left of the lab and say what it was."""
    found = processes(paths)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for("what is left of the lab ends", lambda: not processes(paths), timeout_s=20)
    return found
