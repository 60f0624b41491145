"""QEMU processes by the UUID of their domain, through /proc alone. For the guard, and like it
made of the standard library."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class DomainProcess:
    """A process that runs a domain."""

    pid: int
    uuid: str


def of(uuids: Collection[str], proc: Path = _PROC) -> Iterator[DomainProcess]:
    """Every process of this PID namespace that was started with ``-uuid`` and one of these."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            uuid = _uuid(entry)
            if uuid is not None and uuid in uuids:
                yield DomainProcess(int(entry.name), uuid)


def kill(process: DomainProcess) -> bool:
    """SIGKILL it; False when it is not there any more.

    A pid may have been given to another process since it was found: the pidfd holds on to one
    process, and that one is looked at again before it is killed (pidfd_open(2)).
    """
    try:
        held = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if _uuid(_PROC / str(process.pid)) != process.uuid:
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True


def _uuid(entry: Path) -> str | None:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None  # it ended while we looked
    for option, value in pairwise(words):
        if option == b"-uuid":
            return value.decode(errors="replace").lower()
    return None
