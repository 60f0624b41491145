"""The file by which the agent tells its guard what ends when.

The guard imports this module, so it uses the standard library alone, and little of it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT: Final = Path("/run/roost/lease.json")
GUARD_LIVES_S: Final = 5.0
"""A guard whose sign is older than this is not there: it leaves one with every poll."""
_MACHINE: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_time() -> float:
    """CLOCK_BOOTTIME, in seconds: it runs on while the machine sleeps (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class GuardedDomain:
    """A domain that must not run any more once the lease has ended."""

    uuid: str
    """As in QEMU's ``-uuid``: lower case, with hyphens."""
    name: str


@dataclass(frozen=True)
class LeaseFile:
    """What is in the file."""

    agent_id: str
    deadline: float | None
    """CLOCK_BOOTTIME in seconds; None: nothing is to end."""
    domains: tuple[GuardedDomain, ...]

    def ended(self, now: float) -> bool:
        """Whether its domains must not run any more."""
        return self.deadline is not None and now > self.deadline


def write(path: Path, lease: LeaseFile) -> None:
    """Replace the file as a whole; raises OSError."""
    _replace(
        path,
        {
            "machine": _machine(),
            "agent_id": lease.agent_id,
            "deadline_boottime": lease.deadline,
            "domains": [{"uuid": one.uuid, "name": one.name} for one in lease.domains],
        },
    )


def read(path: Path) -> LeaseFile | None:
    """What the file says; None when it says nothing of this boot of the machine.

    After a reboot its times mean nothing, and what ran then does not run any more. Raises OSError
    and ValueError for a file that is there and cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        if found["machine"] != _machine():
            return None
        deadline = found["deadline_boottime"]
        return LeaseFile(
            agent_id=str(found["agent_id"]),
            deadline=None if deadline is None else float(deadline),
            domains=tuple(
                GuardedDomain(str(one["uuid"]).lower(), str(one["name"]))
                for one in found["domains"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no lease file: {error!r}") from error


def leave_sign(path: Path, now: float) -> None:
    """The guard of the lease file at ``path`` says that it watches it; raises OSError."""
    _replace(_sign(path), {"machine": _machine(), "at_boottime": now})


def is_guarded(path: Path, now: float) -> bool:
    """Whether a guard watches the lease file at ``path``."""
    try:
        found = json.loads(_sign(path).read_text())
        return bool(found["machine"] == _machine() and now - found["at_boottime"] < GUARD_LIVES_S)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sign(path: Path) -> Path:
    return path.with_name(path.name + ".guard")


def _machine() -> str:
    """This boot of this machine (random(4))."""
    return _MACHINE.read_text().strip()


def _replace(path: Path, content: dict[str, object]) -> None:
    # No fsync: after a loss of power neither the file nor what it is about is wanted back.
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)
