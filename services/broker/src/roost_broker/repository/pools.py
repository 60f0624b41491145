"""Queries for pools, entitlements and templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import (
    Entitlement,
    Group,
    Membership,
    Pool,
    Template,
    TemplateVersion,
    User,
)
from roost_common.contracts.spec import OsFamily, TemplateRef
from roost_common.db import AsyncSession
from roost_common.errors import Invalid, NotFound
from roost_common.http import PageQuery
from roost_common.lookup import named


@dataclass(frozen=True)
class LaunchPool:
    """What a launch needs of a pool."""

    id: UUID
    name: str
    max: int
    max_per_user: int
    usb: bool


def entitled_to(user_id: UUID | sa.ColumnElement[UUID]) -> sa.ColumnElement[bool]:
    """Whether this user, or a group of theirs, is entitled to the pool of the enclosing query."""
    groups = sa.select(Membership.group_id).where(Membership.user_id == user_id)
    return (
        sa.select(1)
        .where(
            Entitlement.pool_id == Pool.id,
            sa.or_(Entitlement.user_id == user_id, Entitlement.group_id.in_(groups)),
        )
        .correlate(Pool)
        .exists()
    )


_USB = sa.func.coalesce(Pool.spec["display"]["usb"].as_boolean(), sa.true())
_LAUNCH_COLUMNS = (Pool.id, Pool.name, Pool.max, Pool.max_per_user, _USB.label("usb"))


class Pools:
    """Pools of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def pool(self, reference: str, *, lock: bool = False) -> Pool:
        """By id or name. Raises `NotFound` (``pool.unknown``)."""
        statement = sa.select(Pool).where(named(Pool.id, Pool.name, reference))
        if lock:
            statement = statement.with_for_update()
        pool = await self._session.scalar(statement)
        if pool is None:
            raise NotFound("pool.unknown", "There is no pool {pool}.", pool=reference)
        return pool

    async def exists(self, name: str) -> bool:
        """Whether a pool has exactly this name."""
        found = await self._session.scalar(sa.select(Pool.id).where(Pool.name == name))
        return found is not None

    async def claim(self, pool_id: UUID) -> Pool | None:
        """The pool, for planning: None while another copy plans it, or when it is gone."""
        return await self._session.scalar(
            sa.select(Pool)
            .where(Pool.id == pool_id)
            .with_for_update(key_share=True, skip_locked=True)
        )

    async def ids(self) -> list[UUID]:
        """All pools."""
        return list((await self._session.scalars(sa.select(Pool.id))).all())

    async def page(self, paging: PageQuery) -> tuple[Sequence[Pool], int]:
        """A page by name, and how many there are."""
        statement = sa.select(Pool).order_by(Pool.name).limit(paging.limit + 1)
        if paging.after:
            statement = statement.where(Pool.name > paging.after[0])
        pools = (await self._session.scalars(statement)).all()
        return pools, await self._session.scalar(sa.select(sa.func.count(Pool.id))) or 0

    # --- entitlements -------------------------------------------------------------------------

    async def entitled(self, user_id: UUID) -> list[LaunchPool]:
        """All pools that a user may have, by name."""
        statement = (
            sa.select(*_LAUNCH_COLUMNS)
            .where(entitled_to(user_id), ~Pool.deleting)
            .order_by(Pool.name)
        )
        rows = await self._session.execute(statement)
        return [LaunchPool(*row) for row in rows]

    async def entitlements(self, pool_id: UUID) -> Sequence[tuple[str | None, str | None]]:
        """Pairs of user name or None, and group name or None."""
        statement = (
            sa.select(User.name, Group.name)
            .select_from(Entitlement)
            .outerjoin(User, User.id == Entitlement.user_id)
            .outerjoin(Group, Group.id == Entitlement.group_id)
            .where(Entitlement.pool_id == pool_id)
            .order_by(User.name, Group.name)
        )
        rows: Sequence[Any] = (await self._session.execute(statement)).all()
        return rows

    async def set_entitlements(
        self, pool_id: UUID, user_ids: Sequence[UUID], group_ids: Sequence[UUID]
    ) -> None:
        """Exactly these."""
        await self._session.execute(sa.delete(Entitlement).where(Entitlement.pool_id == pool_id))
        rows: list[dict[str, Any]] = [
            {"id": uuid4(), "pool_id": pool_id, "user_id": user_id, "group_id": None}
            for user_id in user_ids
        ]
        rows += [
            {"id": uuid4(), "pool_id": pool_id, "user_id": None, "group_id": group_id}
            for group_id in group_ids
        ]
        if rows:
            await self._session.execute(sa.insert(Entitlement), rows)

    # --- templates ----------------------------------------------------------------------------

    async def template(self, reference: str, version: int | None) -> TemplateRef:
        """A version of a template, the newest where none is named.

        Raises `Invalid` (``template.unknown``, ``template.version-unknown``).
        """
        ref = await self._template(named(Template.id, Template.name, reference), version)
        if ref is not None:
            return ref
        if version is not None and await self.template_exists(reference):
            raise Invalid(
                "template.version-unknown",
                "The template {template} has no version {version}.",
                template=reference,
                version=version,
            )
        raise Invalid("template.unknown", "There is no template {template}.", template=reference)

    async def template_exists(self, reference: str) -> bool:
        """Whether any version of it can be used."""
        return await self._template(named(Template.id, Template.name, reference), None) is not None

    async def template_of(self, pool: Pool) -> TemplateRef | None:
        """What the pool's desktops are made from now; None when it is gone."""
        return await self._template(Template.id == pool.template_id, pool.template_version)

    async def _template(
        self, which: sa.ColumnElement[bool], version: int | None
    ) -> TemplateRef | None:
        statement = (
            sa.select(Template.id, Template.name, TemplateVersion.version, TemplateVersion.os)
            .join(TemplateVersion, TemplateVersion.template_id == Template.id)
            .where(which, ~Template.deleted)
            .order_by(TemplateVersion.version.desc())
            .limit(1)
        )
        if version is not None:
            statement = statement.where(TemplateVersion.version == version)
        row = (await self._session.execute(statement)).first()
        if row is None:
            return None
        return TemplateRef(id=row.id, name=row.name, version=row.version, os=OsFamily(row.os))

    async def without_template(self, pool_ids: Sequence[UUID]) -> set[UUID]:
        """Those of the pools whose template, or pinned version of it, is gone."""
        usable = (
            sa.select(1)
            .select_from(Template)
            .join(TemplateVersion, TemplateVersion.template_id == Template.id)
            .where(
                Template.id == Pool.template_id,
                ~Template.deleted,
                TemplateVersion.version
                == sa.func.coalesce(Pool.template_version, TemplateVersion.version),
            )
            .correlate(Pool)
            .exists()
        )
        statement = sa.select(Pool.id).where(Pool.id.in_(pool_ids), ~usable)
        return set((await self._session.scalars(statement)).all())

    async def template_names(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Names by id, of deleted ones too."""
        rows = await self._session.execute(
            sa.select(Template.id, Template.name).where(Template.id.in_(ids))
        )
        return dict(rows.all())

    async def template_created(self, key: UUID, name: str, version: int, os: OsFamily) -> None:
        """A version is there; a template that is known as deleted stays so."""
        await self._session.execute(
            postgresql.insert(Template)
            .values(id=key, name=name, deleted=False)
            .on_conflict_do_nothing()
        )
        await self._session.execute(
            postgresql.insert(TemplateVersion)
            .values(template_id=key, version=version, os=os.value)
            .on_conflict_do_nothing()
        )

    async def template_deleted(self, key: UUID, name: str) -> None:
        """It is gone; the mark outlives it."""
        await self._session.execute(
            postgresql.insert(Template)
            .values(id=key, name=name, deleted=True)
            .on_conflict_do_update(index_elements=["id"], set_={"deleted": True})
        )
