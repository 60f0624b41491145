"""Queries of templates and their versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from roost_common.errors import NotFound
from roost_common.http import PageQuery
from roost_common.names import lock_name
from roost_imaging.model import Disk, Template, TemplateVersion
from roost_imaging.repository.pages import Listing, by_key, page
from roost_imaging.saving import BaseUse
from roost_imaging.states import TemplateState, VersionState


class Templates:
    """Templates and their versions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key: str, *, lock: bool = False) -> Template:
        """By id or name. Raises `NotFound` (``template.unknown``)."""
        found: Template | None = await by_key(self._session, Template, key, lock=lock)
        if found is None:
            raise NotFound("template.unknown", "There is no template {template}.", template=key)
        return found

    async def add(self, template: Template) -> bool:
        """A new one; false when its name is taken."""
        await lock_name(self._session, "template", template.name)
        taken = sa.select(Template.id).where(Template.name == template.name)
        if await self._session.scalar(taken) is not None:
            return False
        self._session.add(template)
        await self._session.flush()
        return True

    async def find(self, template_id: UUID, *, lock: bool = False) -> Template | None:
        """By id."""
        return await self._session.get(Template, template_id, with_for_update=lock)

    async def version(self, template_id: UUID, number: int) -> TemplateVersion | None:
        """One version."""
        return await self._session.get(TemplateVersion, (template_id, number))

    async def usable(
        self, template_id: UUID, number: int
    ) -> tuple[Template, TemplateVersion] | None:
        """A version that is ready, held so that its template cannot be deleted before the commit.

        A deletion locks the template's row and then counts its disks; this lock makes it wait
        until the disk that is about to be recorded can be counted.
        """
        template = await self._session.scalar(
            sa.select(Template)
            .where(Template.id == template_id, Template.state == TemplateState.READY)
            .with_for_update(read=True)
        )
        if template is None:
            return None
        version = await self.version(template_id, number)
        if version is None or version.state is not VersionState.READY:
            return None
        return template, version

    async def ready(self) -> list[tuple[Template, TemplateVersion]]:
        """Every version that can be used, held until the commit so that none is deleted before."""
        rows = await self._session.execute(
            sa.select(Template, TemplateVersion)
            .join(TemplateVersion, TemplateVersion.template_id == Template.id)
            .where(
                Template.state == TemplateState.READY, TemplateVersion.state == VersionState.READY
            )
            .with_for_update(read=True, of=Template)
        )
        return [(template, version) for template, version in rows]

    async def page(self, paging: PageQuery) -> Listing:
        """By name."""
        return await page(self._session, Template, [(Template.name, str)], paging)

    async def names(self, ids: Iterable[UUID]) -> dict[UUID, str]:
        """Names by id."""
        query = sa.select(Template.id, Template.name).where(Template.id.in_(list(ids)))
        return dict((await self._session.execute(query)).all())

    async def versions(self, ids: Iterable[UUID]) -> dict[UUID, list[TemplateVersion]]:
        """The versions of each template, oldest first."""
        query = (
            sa.select(TemplateVersion)
            .where(TemplateVersion.template_id.in_(list(ids)))
            .order_by(TemplateVersion.version)
        )
        found: dict[UUID, list[TemplateVersion]] = {}
        for version in await self._session.scalars(query):
            found.setdefault(version.template_id, []).append(version)
        return found

    async def uses(self, ids: Iterable[UUID]) -> dict[UUID, list[BaseUse]]:
        """What each template's ready versions and their overlays take."""
        query = (
            sa.select(
                TemplateVersion.template_id,
                TemplateVersion.used_bytes,
                sa.func.count(Disk.id),
                sa.func.coalesce(sa.func.sum(Disk.used_bytes), 0),
            )
            .outerjoin(
                Disk,
                sa.and_(
                    Disk.template_id == TemplateVersion.template_id,
                    Disk.template_version == TemplateVersion.version,
                ),
            )
            .where(
                TemplateVersion.template_id.in_(list(ids)),
                TemplateVersion.state == VersionState.READY,
            )
            .group_by(
                TemplateVersion.template_id, TemplateVersion.version, TemplateVersion.used_bytes
            )
        )
        found: dict[UUID, list[BaseUse]] = {}
        for template_id, base, count, overlays in await self._session.execute(query):
            found.setdefault(template_id, []).append(BaseUse(base, count, int(overlays)))
        return found

    async def disk_count(self, template_id: UUID) -> int:
        """Disks on any version; tombstones do not count."""
        query = sa.select(sa.func.count()).select_from(Disk).where(Disk.template_id == template_id)
        return await self._session.scalar(query) or 0

    async def deleting(self) -> Sequence[Template]:
        """Those whose files are to go."""
        query = sa.select(Template).where(Template.state == TemplateState.DELETING)
        return (await self._session.scalars(query)).all()

    async def forget(self, template: Template) -> None:
        """The rows of a template and its versions go."""
        await self._session.execute(
            sa.delete(TemplateVersion).where(TemplateVersion.template_id == template.id)
        )
        await self._session.delete(template)

    async def forget_version(self, template_id: UUID, number: int) -> None:
        """The row of a version without success goes, and a template that never had one."""
        await self._session.execute(
            sa.delete(TemplateVersion).where(
                TemplateVersion.template_id == template_id,
                TemplateVersion.version == number,
                TemplateVersion.state == VersionState.IMPORTING,
            )
        )
        template = await self.find(template_id, lock=True)
        if template is not None and template.state is TemplateState.IMPORTING:
            await self._session.delete(template)
