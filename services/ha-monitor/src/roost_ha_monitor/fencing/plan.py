"""One round through a host's fence devices. Pure.

A host is fenced when a device said that it switched it off **and** says afterwards that it is off
**and** nothing of the host is heard after that. A device that does otherwise is left for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Said(StrEnum):
    """What a fence agent answered."""

    DONE = "done"
    """To off and on: it was done."""
    ON = "on"
    OFF = "off"
    FAILED = "failed"
    TIMED_OUT = "timed-out"


@dataclass(frozen=True)
class Try:
    """One device's part of a round, as far as it has come."""

    position: int
    off: Said
    status: Said | None = None
    lives: str = ""
    """What was heard of the host after the device said that it is off, in words."""


@dataclass(frozen=True)
class SwitchOff:
    """Tell this device to switch the host off."""

    position: int


@dataclass(frozen=True)
class AskStatus:
    """Ask this device whether it is."""

    position: int


@dataclass(frozen=True)
class Proven:
    """This device has done it."""

    position: int


@dataclass(frozen=True)
class NothingWorked:
    """No device is left."""


@dataclass(frozen=True)
class Stopped:
    """It is not wanted any more; what was begun has been brought to its end."""


Step = SwitchOff | AskStatus | Proven | NothingWorked | Stopped


def next_step(devices: int, tries: Sequence[Try], *, stop: bool) -> Step:
    """What to do after ``tries``, of a host with so many devices.

    ``stop``: the host beats again, or nobody wants it fenced any more. A device that has been told
    to switch off is asked nevertheless: it may have done it.
    """
    if not tries:
        following = 0
    else:
        last = tries[-1]
        if last.off is Said.DONE and last.status is None:
            return AskStatus(last.position)
        if last.off is Said.DONE and last.status is Said.OFF and not last.lives:
            return Proven(last.position)
        following = last.position + 1
    if stop:
        return Stopped()
    return SwitchOff(following) if following < devices else NothingWorked()
