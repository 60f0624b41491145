"""Disks: overlays on templates, made and taken away by imaging."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from roost_common.contracts.base import Command, Event, Problem


class EnsureDisk(Command, name="disk.ensure.v1"):
    """The whole desired state of a desktop's system disk.

    ``present``: a fresh overlay on this template version exists for this generation, and no
    older generation's file is left. Not ``present``: no file of it is left. A message with a
    generation below the one reached changes nothing.
    """

    disk_id: UUID = Field(description="The desktop's id: a desktop has one system disk")
    template_id: UUID
    template_version: int = Field(ge=1)
    generation: int = Field(ge=1)
    present: bool = True

    @property
    def subject(self) -> str:
        return str(self.disk_id)


class DiskFact(Event):
    """What events about a disk carry."""

    disk_id: UUID
    generation: int = Field(ge=1)

    @property
    def subject(self) -> str:
        return str(self.disk_id)


class DiskReady(DiskFact, name="disk.ready.v1"):
    """The overlay of this generation is there."""

    path: str
    format: str = "qcow2"
    virtual_bytes: int
    template_id: UUID
    template_version: int


class DiskRefused(DiskFact, name="disk.refused.v1"):
    """The overlay could not be made: storage.full, storage.unavailable, template.unknown …"""

    problem: Problem
    retryable: bool = Field(description="Whether asking again later can help")


class DiskDeleted(DiskFact, name="disk.deleted.v1"):
    """No file of it is left."""
