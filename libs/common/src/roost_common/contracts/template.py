"""Templates and the jobs that make them."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Event, Problem
from roost_common.contracts.spec import OsFamily


class TemplateFact(Event):
    """What events about a template version carry."""

    template_id: UUID
    template_name: str

    @property
    def subject(self) -> str:
        return str(self.template_id)


class TemplateCreated(TemplateFact, name="template.created.v1"):
    """A version of a template is ready to be used, and read-only from now on."""

    version: int = Field(ge=1)
    os: OsFamily
    virtual_bytes: int
    used_bytes: int


class TemplateDeleted(TemplateFact, name="template.deleted.v1"):
    """A template and all its versions are gone."""


class JobFinished(Event, name="job.finished.v1"):
    """A job of imaging ended: done, failed (with the problem) or cancelled."""

    job_id: UUID
    job_kind: str
    state: str
    problem: Problem | None = None

    @property
    def subject(self) -> str:
        return str(self.job_id)


class StorageChanged(Event, name="storage.changed.v1"):
    """A storage domain became usable, full or unreachable."""

    storage_id: UUID
    storage_name: str
    state: str = Field(description="up, full or unavailable")
    total_bytes: int
    free_bytes: int

    @property
    def subject(self) -> str:
        return str(self.storage_id)
