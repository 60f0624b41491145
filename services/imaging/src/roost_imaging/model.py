"""The mapped classes of imaging, and their transitions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common import db
from roost_common.contracts.base import Problem
from roost_common.contracts.spec import OsFamily
from roost_common.errors import Conflict
from roost_common.idempotency import add_idempotency_table
from roost_common.lease import add_lease_table
from roost_common.outbox import add_message_tables
from roost_imaging.layout import Layout
from roost_imaging.states import (
    DISK_MOVES,
    JOB_MOVES,
    DiskState,
    JobState,
    StorageState,
    TemplateState,
    VersionState,
)


class Base(db.Base):
    """Base of the mapped classes."""

    __abstract__ = True

    metadata = db.new_metadata()


add_message_tables(Base.metadata)
add_lease_table(Base.metadata)
add_idempotency_table(Base.metadata)


def _words(words: type[StrEnum]) -> sa.Enum:
    """A StrEnum kept as its words, which a person reads in the table too."""
    return sa.Enum(
        words,
        native_enum=False,
        length=16,
        values_callable=lambda enum: [member.value for member in enum],
    )


class StorageDomain(Base):
    """A shared directory that holds templates and overlays."""

    __tablename__ = "storage_domains"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128), unique=True)
    path: Mapped[str] = mapped_column(sa.String(4096), unique=True)
    state: Mapped[StorageState] = mapped_column(_words(StorageState))
    total_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    used_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    free_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime]
    checked_at: Mapped[datetime]

    @property
    def layout(self) -> Layout:
        """Where things lie in it."""
        return Layout(self.id, Path(self.path))


class Template(Base):
    """An operating system's image, in versions; desktops are overlays on one version."""

    __tablename__ = "templates"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128), unique=True)
    os: Mapped[OsFamily] = mapped_column(_words(OsFamily))
    description: Mapped[str] = mapped_column(sa.String(1024))
    storage_id: Mapped[UUID] = mapped_column(sa.ForeignKey("storage_domains.id"), index=True)
    state: Mapped[TemplateState] = mapped_column(_words(TemplateState))
    next_version: Mapped[int]
    created_at: Mapped[datetime]

    def take_version(self) -> int:
        """The number of the next version; a failed import's number is not given again."""
        number = self.next_version
        self.next_version += 1
        return number

    def require_ready(self) -> None:
        """Raises `Conflict` (``template.busy``) unless new versions may be made."""
        if self.state is not TemplateState.READY:
            raise Conflict(
                "template.busy", "Template {template} is {state}.", template=self.name,
                state=self.state.value,
            )  # fmt: skip

    def mark_ready(self) -> None:
        """It has a version."""
        if self.state is TemplateState.DELETING:
            raise Conflict("template.busy", "Template {template} goes away.", template=self.name)
        self.state = TemplateState.READY

    def mark_deleting(self) -> None:
        """Nothing new is made of it from now on."""
        self.state = TemplateState.DELETING


class TemplateVersion(Base):
    """One read-only base image."""

    __tablename__ = "template_versions"

    template_id: Mapped[UUID] = mapped_column(sa.ForeignKey("templates.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[VersionState] = mapped_column(_words(VersionState))
    virtual_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    used_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime]

    def mark_ready(self, *, virtual_bytes: int, used_bytes: int, sha256: str) -> None:
        """Its file is in place, and stays as it is."""
        if self.state is VersionState.READY:
            raise Conflict("template.version-exists", "This version is there already.")
        self.state = VersionState.READY
        self.virtual_bytes = virtual_bytes
        self.used_bytes = used_bytes
        self.sha256 = sha256


class Disk(Base):
    """A desktop's system disk: an overlay on a template version, made anew per generation."""

    __tablename__ = "disks"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["template_id", "template_version"],
            ["template_versions.template_id", "template_versions.version"],
        ),
        sa.Index(None, "template_id", "template_version"),
        sa.Index(None, "counted_at"),
        sa.Index(None, "deleted_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int]
    state: Mapped[DiskState] = mapped_column(_words(DiskState))
    storage_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("storage_domains.id"), index=True)
    template_id: Mapped[UUID | None]
    template_version: Mapped[int | None]
    virtual_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    used_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime]
    counted_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """Since when it is a tombstone."""

    def want(self, version: TemplateVersion, storage_id: UUID, generation: int) -> None:
        """This generation is to be made, on this base."""
        self._move(DiskState.PENDING)
        self.deleted_at = None
        self.generation = generation
        self.storage_id = storage_id
        self.template_id = version.template_id
        self.template_version = version.version
        self.virtual_bytes = version.virtual_bytes

    def mark_ready(self, used_bytes: int, now: datetime) -> None:
        """The overlay is there."""
        self._move(DiskState.READY)
        self.used_bytes = used_bytes
        self.counted_at = now

    def mark_deleting(self, generation: int) -> None:
        """Its files are to go; no message of this generation brings it back."""
        self._move(DiskState.DELETING)
        self.deleted_at = None
        self.generation = generation

    def mark_deleted(self, now: datetime) -> None:
        """No file is left, and its base is free of it: the row is a tombstone from now on."""
        self._move(DiskState.DELETED)
        self.deleted_at = now
        self.storage_id = self.template_id = self.template_version = None
        self.virtual_bytes = self.used_bytes = 0
        self.counted_at = None

    def _move(self, to: DiskState) -> None:
        if to not in DISK_MOVES[self.state]:
            raise Conflict(
                "disk.state", "A disk that is {state} cannot become {to}.",
                state=self.state.value, to=to.value,
            )  # fmt: skip
        self.state = to


class Job(Base):
    """Long work, held by one worker at a time for as long as it renews its lease."""

    __tablename__ = "jobs"
    __table_args__ = (sa.Index(None, "state", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(32))
    state: Mapped[JobState] = mapped_column(_words(JobState))
    percent: Mapped[float]
    problem: Mapped[dict[str, Any] | None]
    request: Mapped[dict[str, Any]]
    template_id: Mapped[UUID] = mapped_column(index=True)
    template_name: Mapped[str] = mapped_column(sa.String(128))
    version: Mapped[int]
    cancel_requested: Mapped[bool]
    attempt: Mapped[int]
    worker: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(sa.String(255))
    correlation_id: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @property
    def correlation(self) -> str:
        """Of the request that made it; what is said about the job bears it."""
        return self.correlation_id or str(self.id)  # older copies write none

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return not JOB_MOVES[self.state]

    def take(self, worker: UUID, now: datetime) -> None:
        """A worker starts it, or starts it anew after another one died."""
        self._move(JobState.RUNNING)
        self.worker = worker
        self.attempt += 1
        self.percent = 0.0
        self.started_at = self.started_at or now

    def give_back(self) -> None:
        """Its worker stops in good order: that start does not count."""
        self._move(JobState.QUEUED)
        self.worker = self.lease_until = None
        self.attempt -= 1
        self.percent = 0.0

    def finish(self, state: JobState, now: datetime, problem: Problem | None = None) -> None:
        """Done, failed with a problem, or cancelled."""
        self._move(state)
        self.worker = self.lease_until = None
        self.finished_at = now
        self.problem = None if problem is None else problem.model_dump()
        if state is JobState.DONE:
            self.percent = 100.0

    def _move(self, to: JobState) -> None:
        if to not in JOB_MOVES[self.state]:
            raise Conflict("job.finished", "The job is {state} already.", state=self.state.value)
        self.state = to
