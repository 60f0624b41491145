"""What the HTTP interface takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Problem
from roost_common.contracts.spec import OsFamily
from roost_common.http import ApiModel, NoId
from roost_imaging.model import Disk, Job, StorageDomain, Template, TemplateVersion
from roost_imaging.saving import BaseUse, total_saved_bytes
from roost_imaging.states import DiskState, JobState, StorageState, TemplateState, VersionState

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"), NoId]
"""Unique among its kind; taken wherever an id is."""


class NewStorage(ApiModel):
    """A storage domain to be."""

    name: Name
    path: str = Field(
        min_length=1, max_length=2048, description="Directory inside the storage root"
    )


class StorageView(ApiModel):
    """A storage domain."""

    id: UUID
    name: str
    path: str
    state: StorageState
    total_bytes: int
    used_bytes: int = Field(description="Of the whole file system, not only of Roost")
    free_bytes: int
    templates: int
    disks: int
    created_at: datetime
    checked_at: datetime

    @classmethod
    def of(cls, domain: StorageDomain, *, templates: int, disks: int) -> StorageView:
        """From its row and what lies in it."""
        return cls(
            id=domain.id,
            name=domain.name,
            path=domain.path,
            state=domain.state,
            total_bytes=domain.total_bytes,
            used_bytes=domain.used_bytes,
            free_bytes=domain.free_bytes,
            templates=templates,
            disks=disks,
            created_at=domain.created_at,
            checked_at=domain.checked_at,
        )


class Source(ApiModel):
    """Where an image comes from: exactly one of ``path``, ``upload``, ``desktop``."""

    path: str | None = Field(
        default=None, max_length=4096, description="A file of the import directory"
    )
    upload: Any | None = Field(default=None, description="Not supported")
    desktop: Any | None = Field(default=None, description="Not supported")
    format: str | None = Field(
        default=None,
        max_length=32,
        description="qcow2, raw or vmdk; without it the content decides, and must fit the name",
    )
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-fA-F]{64}$", description="What the file must have"
    )


class NewVersion(ApiModel):
    """A further version of a template."""

    source: Source


class NewTemplate(NewVersion):
    """A template to be, with its first version."""

    name: Name
    os: OsFamily
    storage: str | None = Field(
        default=None, max_length=128, description="Id or name; without it the oldest domain"
    )
    description: str = Field(default="", max_length=1024)


class JobView(ApiModel):
    """A job."""

    id: UUID
    kind: str
    state: JobState
    percent: float
    problem: Problem | None
    template_id: UUID
    template: str
    version: int
    cancel_requested: bool
    attempt: int = Field(description="Starts so far; more than one when a worker died")
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobView:
        """From its row."""
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            percent=round(job.percent, 1),
            problem=None if job.problem is None else Problem.model_validate(job.problem),
            template_id=job.template_id,
            template=job.template_name,
            version=job.version,
            cancel_requested=job.cancel_requested,
            attempt=job.attempt,
            created_by=job.created_by,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class ImportAccepted(ApiModel):
    """An import that a job carries out now; ``Location`` names the job."""

    id: UUID = Field(description="The template's")
    name: str
    version: int
    job_id: UUID
    job: JobView

    @classmethod
    def of(cls, job: Job) -> ImportAccepted:
        """From its job."""
        return cls(
            id=job.template_id,
            name=job.template_name,
            version=job.version,
            job_id=job.id,
            job=JobView.of(job),
        )


class VersionView(ApiModel):
    """One version of a template."""

    version: int
    state: VersionState
    virtual_bytes: int
    used_bytes: int
    sha256: str | None
    created_at: datetime


class TemplateView(ApiModel):
    """A template with its versions and what it saves."""

    id: UUID
    name: str
    os: OsFamily
    description: str
    state: TemplateState
    storage_id: UUID
    storage: str
    version: int | None = Field(description="The newest that is ready")
    versions: list[VersionView]
    virtual_bytes: int = Field(description="Of the newest ready version")
    used_bytes: int = Field(description="Of all ready versions")
    overlay_bytes: int = Field(description="Of all overlays on it")
    saved_bytes: int = Field(description="max(0, n * base - (base + overlays)) of each version")
    desktops: int
    created_at: datetime

    @classmethod
    def of(
        cls,
        template: Template,
        storage: str,
        versions: list[TemplateVersion],
        uses: list[BaseUse],
    ) -> TemplateView:
        """From its rows; ``uses`` are those of the ready versions."""
        ready = [version for version in versions if version.state is VersionState.READY]
        newest = ready[-1] if ready else None
        return cls(
            id=template.id,
            name=template.name,
            os=template.os,
            description=template.description,
            state=template.state,
            storage_id=template.storage_id,
            storage=storage,
            version=None if newest is None else newest.version,
            versions=[
                VersionView(
                    version=version.version,
                    state=version.state,
                    virtual_bytes=version.virtual_bytes,
                    used_bytes=version.used_bytes,
                    sha256=version.sha256,
                    created_at=version.created_at,
                )
                for version in versions
            ],
            virtual_bytes=0 if newest is None else newest.virtual_bytes,
            used_bytes=sum(use.base_bytes for use in uses),
            overlay_bytes=sum(use.overlay_bytes for use in uses),
            saved_bytes=total_saved_bytes(uses),
            desktops=sum(use.overlays for use in uses),
            created_at=template.created_at,
        )


class ImageView(ApiModel):
    """A desktop's disk: an overlay on a template version."""

    id: UUID = Field(description="The desktop's")
    kind: str
    state: DiskState
    generation: int
    storage_id: UUID | None
    storage: str | None
    path: str | None
    format: str
    template_id: UUID | None
    template: str | None
    template_version: int | None
    virtual_bytes: int
    used_bytes: int
    counted_at: datetime | None = Field(description="When used_bytes was measured")
    created_at: datetime

    @classmethod
    def of(cls, disk: Disk, domain: StorageDomain | None, template: str | None) -> ImageView:
        """From its row and the names of what it lies on."""
        path = None
        if domain is not None and disk.state is DiskState.READY:
            path = str(domain.layout.disk_file(disk.id, disk.generation))
        return cls(
            id=disk.id,
            kind="overlay",
            state=disk.state,
            generation=disk.generation,
            storage_id=disk.storage_id,
            storage=None if domain is None else domain.name,
            path=path,
            format="qcow2",
            template_id=disk.template_id,
            template=template,
            template_version=disk.template_version,
            virtual_bytes=disk.virtual_bytes,
            used_bytes=disk.used_bytes,
            counted_at=disk.counted_at,
            created_at=disk.created_at,
        )
