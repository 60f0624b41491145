"""Local users and groups: made, changed, deleted, and the first administrator."""

from __future__ import annotations

from uuid import UUID, uuid4

from roost_broker.ending import Ending
from roost_broker.model import Group, User
from roost_broker.passwords import Passwords
from roost_broker.repository.identities import Identities
from roost_broker.repository.sessions import Sessions
from roost_broker.schemas import GroupCreate, GroupPatch, UserCreate, UserPatch, only_given
from roost_common import log
from roost_common.contracts.session import EndReason
from roost_common.errors import Conflict, Invalid
from roost_common.idempotency import claim
from roost_common.names import lock_name
from roost_common.outbox import Transaction, UnitOfWork
from roost_common.security import Identity, Role

logger = log.get_logger(__name__)

FIRST_ADMIN = "admin"


class Accounts:
    """The use cases; each is one transaction."""

    def __init__(self, unit_of_work: UnitOfWork, passwords: Passwords, ending: Ending) -> None:
        self._unit = unit_of_work
        self._passwords = passwords
        self._ending = ending

    async def ensure_first_admin(self, password: str) -> None:
        """There is an administrator of this name; one that is there keeps its password."""
        async with self._unit() as transaction:
            if await Identities(transaction.session).by_name(FIRST_ADMIN) is not None:
                return
        secret = await self._passwords.hash(password)
        try:
            async with self._unit() as transaction:
                user = self._new(FIRST_ADMIN, secret, "", [Role.ADMIN], disabled=False)
                transaction.session.add(user)
        except Conflict:
            logger.info("user.first-admin-exists")  # another copy was faster
        else:
            logger.info("user.first-admin-made", user=FIRST_ADMIN)

    # --- users --------------------------------------------------------------------------------

    async def create_user(self, who: Identity, wish: UserCreate, key: str | None) -> UUID:
        """Raises `Conflict` (``user.name-taken``)."""
        secret = await self._passwords.hash(wish.password.get_secret_value())
        user = self._new(wish.name, secret, wish.full_name, wish.roles, disabled=wish.disabled)
        async with self._unit() as transaction:
            earlier = await claim(
                transaction,
                actor=str(who.id),
                key=key,
                request=wish,
                resource_id=user.id,
                now=user.created_at,
            )
            if earlier is not None:
                return earlier
            await lock_name(transaction.session, "user", wish.name)
            if await Identities(transaction.session).by_name(wish.name) is not None:
                raise Conflict("user.name-taken", "There is a user {user} already.", user=wish.name)
            transaction.session.add(user)
        logger.info("user.created", user=user.name, by=who.name)
        return user.id

    async def change_user(self, who: Identity, reference: str, patch: UserPatch) -> UUID:
        """Raises `NotFound`, and `Conflict` (``user.last-admin``)."""
        given = only_given(patch)
        for name, value in given.items():
            if value is None:
                raise Invalid("request.invalid", "{field} cannot be null.", field=name)
        if patch.password is not None:
            del given["password"]
            given["password_hash"] = await self._passwords.hash(patch.password.get_secret_value())
        if patch.roles is not None:
            given["roles"] = _roles(patch.roles)
        async with self._unit() as transaction:
            identities = Identities(transaction.session)
            admins = await identities.lock_admins()
            user = await identities.user(reference, lock=True)
            for name, value in given.items():
                setattr(user, name, value)
            if admins == [user.id] and not user.is_admin:
                raise _last_admin()
        logger.info("user.changed", user=user.name, by=who.name, fields=sorted(given))
        return user.id

    async def delete_user(self, who: Identity, reference: str) -> None:
        """The user's sessions end. Raises `NotFound`, and `Conflict` (``user.last-admin``)."""
        async with self._unit() as transaction:
            identities = Identities(transaction.session)
            admins = await identities.lock_admins()
            user = await identities.user(reference, lock=True)
            if admins == [user.id]:
                raise _last_admin()
            for session in await Sessions(transaction.session).open_of_user(user.id):
                await self._ending.end(transaction, session.id, EndReason.LOGGED_OFF)
            await identities.delete_user(user.id)
        logger.info("user.deleted", user=user.name, by=who.name)

    def _new(
        self, name: str, secret: str, full_name: str, roles: list[Role], *, disabled: bool
    ) -> User:
        return User(
            id=uuid4(),
            name=name,
            full_name=full_name,
            password_hash=secret,
            roles=_roles(roles),
            disabled=disabled,
            created_at=self._unit.clock.now(),
        )

    # --- groups -------------------------------------------------------------------------------

    async def create_group(self, who: Identity, wish: GroupCreate, key: str | None) -> UUID:
        """Raises `Conflict` (``group.name-taken``), `Invalid` (``user.unknown``)."""
        group = Group(id=uuid4(), name=wish.name, created_at=self._unit.clock.now())
        async with self._unit() as transaction:
            earlier = await claim(
                transaction,
                actor=str(who.id),
                key=key,
                request=wish,
                resource_id=group.id,
                now=group.created_at,
            )
            if earlier is not None:
                return earlier
            await _check_group_name(transaction, wish.name)
            identities = Identities(transaction.session)
            members = await identities.users_named(wish.members)
            transaction.session.add(group)
            await transaction.session.flush()
            await identities.set_members(group.id, members)
        logger.info("group.created", group=group.name, by=who.name)
        return group.id

    async def change_group(self, who: Identity, reference: str, patch: GroupPatch) -> UUID:
        """Raises `NotFound`, `Conflict` (``group.name-taken``), `Invalid` (``user.unknown``)."""
        async with self._unit() as transaction:
            identities = Identities(transaction.session)
            group = await identities.group(reference, lock=True)
            if patch.name is not None and patch.name != group.name:
                await _check_group_name(transaction, patch.name)
                group.name = patch.name
            if patch.members is not None:
                members = await identities.users_named(patch.members)
                await identities.set_members(group.id, members)
        logger.info("group.changed", group=group.name, by=who.name)
        return group.id

    async def delete_group(self, who: Identity, reference: str) -> None:
        """Raises `NotFound`."""
        async with self._unit() as transaction:
            identities = Identities(transaction.session)
            group = await identities.group(reference, lock=True)
            await identities.delete_group(group.id)
        logger.info("group.deleted", group=group.name, by=who.name)


async def _check_group_name(transaction: Transaction, name: str) -> None:
    await lock_name(transaction.session, "group", name)
    if await Identities(transaction.session).group_exists(name):
        raise Conflict("group.name-taken", "There is a group {group} already.", group=name)


def _roles(roles: list[Role]) -> list[str]:
    return sorted({role.value for role in roles})


def _last_admin() -> Conflict:
    return Conflict("user.last-admin", "The last administrator cannot be taken away.")
