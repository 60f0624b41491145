"""The states of imaging's objects, and which follows which. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class StorageState(StrEnum):
    """What can be done with a storage domain now."""

    UP = "up"
    FULL = "full"
    """Less is free than the reserve: nothing new is made, what is there works."""
    UNAVAILABLE = "unavailable"
    """It does not answer, or is not mounted."""


class TemplateState(StrEnum):
    """Whether a template can be used."""

    IMPORTING = "importing"
    """Its first version is being made."""
    READY = "ready"
    DELETING = "deleting"


class VersionState(StrEnum):
    """Whether a version of a template can be used."""

    IMPORTING = "importing"
    READY = "ready"


class DiskState(StrEnum):
    """What is known of a disk's present generation."""

    PENDING = "pending"
    """Wanted, not made yet."""
    READY = "ready"
    DELETING = "deleting"
    DELETED = "deleted"
    """A tombstone: a late message of this or an older generation brings nothing back."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


JOB_MOVES: Final = {
    JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED},
    JobState.RUNNING: {
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.DONE,
        JobState.FAILED,
        JobState.CANCELLED,
    },
    JobState.DONE: set[JobState](),
    JobState.FAILED: set[JobState](),
    JobState.CANCELLED: set[JobState](),
}
"""Running to running is a job taken from a worker that died; to queued, one given back."""
DISK_MOVES: Final = {
    DiskState.PENDING: {DiskState.PENDING, DiskState.READY, DiskState.DELETING},
    DiskState.READY: {DiskState.PENDING, DiskState.DELETING},
    DiskState.DELETING: {DiskState.DELETING, DiskState.DELETED},
    DiskState.DELETED: {DiskState.PENDING, DiskState.DELETING},
}
"""Which generation may do so is `disk_plan`'s to decide."""
