"""Queries for users, groups and memberships."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from roost_broker.model import Group, Membership, User
from roost_common.db import AsyncSession
from roost_common.errors import Invalid, NotFound, Unauthenticated
from roost_common.http import PageQuery
from roost_common.lookup import named
from roost_common.security import Role

_ADMINS = sa.and_(
    postgresql.array([sa.literal(Role.ADMIN.value, sa.String(16))]).contained_by(User.roles),
    ~User.disabled,
)


_LOCK = (
    sa.select(User.id, User.name, User.disabled)
    .where(User.id == sa.bindparam("the_user", type_=sa.Uuid()))
    .with_for_update(key_share=True)
)


@dataclass(frozen=True)
class Known:
    """A user who may launch."""

    id: UUID
    name: str


class Identities:
    """Users and groups of one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- users --------------------------------------------------------------------------------

    async def by_name(self, name: str) -> User | None:
        """A user by exact (lower-case) name."""
        return await self._session.scalar(sa.select(User).where(User.name == name))

    async def user(self, reference: str, *, lock: bool = False) -> User:
        """By id or name. Raises `NotFound` (``user.unknown``)."""
        statement = sa.select(User).where(named(User.id, User.name, reference.lower()))
        if lock:
            statement = statement.with_for_update(key_share=True)
        user = await self._session.scalar(statement)
        if user is None:
            raise NotFound("user.unknown", "There is no user {user}.", user=reference)
        return user

    async def live(self, user_id: UUID) -> User | None:
        """The user, where there is one and not disabled."""
        return await self._session.scalar(sa.select(User).where(User.id == user_id, ~User.disabled))

    async def lock_live(self, user_id: UUID) -> Known:
        """The user, locked. Raises `Unauthenticated` for one who is gone or disabled."""
        row = (await self._session.execute(_LOCK, {"the_user": user_id})).first()
        if row is None or row.disabled:
            raise Unauthenticated("auth.user-disabled", "This user may not log on any more.")
        return Known(row.id, row.name)

    async def users(self, paging: PageQuery) -> tuple[Sequence[User], int]:
        """A page by name, and how many there are."""
        statement = sa.select(User).order_by(User.name).limit(paging.limit + 1)
        if paging.after:
            statement = statement.where(User.name > paging.after[0])
        users = (await self._session.scalars(statement)).all()
        return users, await self._session.scalar(sa.select(sa.func.count(User.id))) or 0

    async def users_named(self, references: Iterable[str]) -> list[UUID]:
        """Ids of users by name or id, each once. Raises `Invalid` (``user.unknown``)."""
        found = []
        for reference in dict.fromkeys(text.lower() for text in references):
            key = await self._session.scalar(
                sa.select(User.id).where(named(User.id, User.name, reference))
            )
            if key is None:
                raise Invalid("user.unknown", "There is no user {user}.", user=reference)
            found.append(key)
        return list(dict.fromkeys(found))

    async def lock_admins(self) -> list[UUID]:
        """Ids of all administrators who may log on; nobody else changes them meanwhile."""
        statement = sa.select(User.id).where(_ADMINS).order_by(User.id).with_for_update()
        return list((await self._session.scalars(statement)).all())

    async def delete_user(self, user_id: UUID) -> None:
        """With what hangs on the user: memberships, entitlements, launches."""
        await self._session.execute(sa.delete(User).where(User.id == user_id))

    # --- groups -------------------------------------------------------------------------------

    async def group(self, reference: str, *, lock: bool = False) -> Group:
        """By id or name. Raises `NotFound` (``group.unknown``)."""
        statement = sa.select(Group).where(named(Group.id, Group.name, reference))
        if lock:
            statement = statement.with_for_update(key_share=True)
        group = await self._session.scalar(statement)
        if group is None:
            raise NotFound("group.unknown", "There is no group {group}.", group=reference)
        return group

    async def group_exists(self, name: str) -> bool:
        """Whether a group has exactly this name."""
        found = await self._session.scalar(sa.select(Group.id).where(Group.name == name))
        return found is not None

    async def groups(self, paging: PageQuery) -> tuple[Sequence[Group], int]:
        """A page by name, and how many there are."""
        statement = sa.select(Group).order_by(Group.name).limit(paging.limit + 1)
        if paging.after:
            statement = statement.where(Group.name > paging.after[0])
        groups = (await self._session.scalars(statement)).all()
        return groups, await self._session.scalar(sa.select(sa.func.count(Group.id))) or 0

    async def groups_of(self, user_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
        """Group names by user."""
        rows = await self._session.execute(
            sa.select(Membership.user_id, Group.name)
            .join(Group, Group.id == Membership.group_id)
            .where(Membership.user_id.in_(user_ids))
            .order_by(Group.name)
        )
        return _gather(rows.all())

    async def members_of(self, group_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
        """User names by group."""
        rows = await self._session.execute(
            sa.select(Membership.group_id, User.name)
            .join(User, User.id == Membership.user_id)
            .where(Membership.group_id.in_(group_ids))
            .order_by(User.name)
        )
        return _gather(rows.all())

    async def set_members(self, group_id: UUID, user_ids: Sequence[UUID]) -> None:
        """Exactly these."""
        await self._session.execute(sa.delete(Membership).where(Membership.group_id == group_id))
        if user_ids:
            await self._session.execute(
                sa.insert(Membership),
                [{"group_id": group_id, "user_id": user_id} for user_id in user_ids],
            )

    async def delete_group(self, group_id: UUID) -> None:
        """With its memberships and entitlements; its users stay."""
        await self._session.execute(sa.delete(Group).where(Group.id == group_id))


def _gather(rows: Sequence[tuple[UUID, str]]) -> dict[UUID, list[str]]:
    names: dict[UUID, list[str]] = {}
    for key, name in rows:
        names.setdefault(key, []).append(name)
    return names
