"""Where things lie in a storage domain. Pure.

::

    <domain>/.roost-storage                            the domain's id: proof that it is mounted
    <domain>/templates/<template>/v<N>.qcow2           a version, read-only
    <domain>/templates/<template>/.v<N>.<job>.<A>.part the same in the making, by attempt A
    <domain>/desktops/<disk>/<generation>.qcow2        an overlay
    <domain>/desktops/<disk>/.<generation>.<token>.part
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

MARKER: Final = ".roost-storage"
TEMPLATES: Final = "templates"
DESKTOPS: Final = "desktops"
_PART: Final = re.compile(r"^\.v(\d+)\.([0-9a-f-]{36})\.(\d+)\.part$")
_GENERATION: Final = re.compile(r"^(\d+)\.qcow2$")
OVERLAY_PART: Final = re.compile(r"^\.\d+\.[0-9a-f-]{36}\.part$")


@dataclass(frozen=True)
class VersionPart:
    """A template version in the making, as its file name says."""

    version: int
    job_id: UUID
    attempt: int


@dataclass(frozen=True)
class Layout:
    """The paths of one storage domain."""

    storage_id: UUID
    root: Path

    @property
    def marker(self) -> Path:
        """Holds the domain's id."""
        return self.root / MARKER

    @property
    def templates(self) -> Path:
        """A directory per template."""
        return self.root / TEMPLATES

    @property
    def desktops(self) -> Path:
        """A directory per disk."""
        return self.root / DESKTOPS

    def template_dir(self, template_id: UUID) -> Path:
        """All versions of one template."""
        return self.templates / str(template_id)

    def version_file(self, template_id: UUID, version: int) -> Path:
        """A template version."""
        return self.template_dir(template_id) / f"v{version}.qcow2"

    def version_part(self, template_id: UUID, version: int, job_id: UUID, attempt: int) -> Path:
        """The same while one attempt of a job makes it."""
        return self.template_dir(template_id) / f".v{version}.{job_id}.{attempt}.part"

    def disk_dir(self, disk_id: UUID) -> Path:
        """All generations of one disk."""
        return self.desktops / str(disk_id)

    def disk_file(self, disk_id: UUID, generation: int) -> Path:
        """An overlay."""
        return self.disk_dir(disk_id) / f"{generation}.qcow2"

    def disk_part(self, disk_id: UUID, generation: int, token: UUID) -> Path:
        """The same while it is made; ``token`` keeps two makers apart."""
        return self.disk_dir(disk_id) / f".{generation}.{token}.part"


def version_part(name: str) -> VersionPart | None:
    """What a file name in a template's directory says, when it is one in the making."""
    match = _PART.match(name)
    if match is None:
        return None
    return VersionPart(int(match[1]), UUID(match[2]), int(match[3]))


def generation(name: str) -> int | None:
    """The generation that a file name in a disk's directory says."""
    match = _GENERATION.match(name)
    return int(match[1]) if match else None
