"""Pools: made, changed, entitled, deleted."""

from __future__ import annotations

from uuid import UUID, uuid4

from roost_broker.ending import Moved
from roost_broker.model import Pool
from roost_broker.repository.identities import Identities
from roost_broker.repository.placement import Placement
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_broker.schemas import EntitlementEntry, PoolCreate, PoolPatch, check_sizes, only_given
from roost_common import log
from roost_common.contracts.spec import DesktopSpec
from roost_common.errors import Conflict, Invalid, NotFound
from roost_common.idempotency import claim
from roost_common.names import lock_name
from roost_common.outbox import Transaction, UnitOfWork
from roost_common.security import Identity

logger = log.get_logger(__name__)

_MAY_BE_NULL = frozenset({"template_version", "disconnect_timeout_s"})


class PoolAdministration:
    """The use cases; each is one transaction."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        moved: Moved,
        *,
        pending_timeout_s: int,
        disconnect_timeout_s: int,
    ) -> None:
        self._unit = unit_of_work
        self._moved = moved
        self._pending_timeout_s = pending_timeout_s
        self._disconnect_timeout_s = disconnect_timeout_s

    async def create(self, who: Identity, wish: PoolCreate, key: str | None) -> UUID:
        """Raises `Conflict` (``pool.name-taken``), `Invalid` (unknown template, too large)."""
        if wish.kind != "automatic":
            raise Invalid(
                "pool.kind-unsupported",
                "Pools of the kind {kind} are not served yet.",
                kind=wish.kind,
            )
        pool_id = uuid4()
        async with self._unit() as transaction:
            now = self._unit.clock.now()
            earlier = await claim(
                transaction,
                actor=str(who.id),
                key=key,
                request=wish,
                resource_id=pool_id,
                now=now,
            )
            if earlier is not None:
                return earlier
            await _check_name(transaction, wish.name)
            template = await Pools(transaction.session).template(
                wish.template, wish.template_version
            )
            await _check_size(transaction, wish.spec)
            forever = "disconnect_timeout_s" in wish.model_fields_set
            pool = Pool(
                id=pool_id,
                name=wish.name,
                kind=wish.kind,
                template_id=template.id,
                template_version=wish.template_version,
                min=wish.min,
                max=wish.max,
                spare=wish.spare,
                max_per_user=wish.max_per_user,
                spec=wish.spec.model_dump(mode="json"),
                pending_timeout_s=wish.pending_timeout_s or self._pending_timeout_s,
                disconnect_timeout_s=(
                    wish.disconnect_timeout_s if forever else self._disconnect_timeout_s
                ),
                revision=1,
                deleting=False,
                created_at=now,
            )
            transaction.session.add(pool)
            self._say(transaction, pool)
        logger.info("pool.created", pool=wish.name, by=who.name)
        return pool_id

    async def change(self, who: Identity, reference: str, patch: PoolPatch) -> UUID:
        """Takes effect desktop by desktop. Raises `NotFound`, `Conflict`, `Invalid`."""
        given = only_given(patch)
        for name, value in given.items():
            if value is None and name not in _MAY_BE_NULL:
                raise Invalid("request.invalid", "{field} cannot be null.", field=name)
        async with self._unit() as transaction:
            pools = Pools(transaction.session)
            pool = await pools.pool(reference, lock=True)
            _check_stays(pool)
            if patch.spec is not None:
                spec = pool.hardware.amended_by(patch.spec)
                await _check_size(transaction, spec)
                given["spec"] = spec.model_dump(mode="json")
            if "template" in given or given.get("template_version") is not None:
                # A version belongs to its template: a new template comes without the old pin.
                version = given.get("template_version")
                reference = given.pop("template", None) or str(pool.template_id)
                template = await pools.template(reference, version)
                given["template_id"], given["template_version"] = template.id, version
            for name, value in given.items():
                setattr(pool, name, value)
            try:
                check_sizes(pool.min, pool.max, pool.spare)
            except ValueError as error:
                raise Invalid("pool.sizes", "{why}.", why=str(error)) from error
            pool.changed()
            self._say(transaction, pool)
        logger.info("pool.changed", pool=pool.name, by=who.name, fields=sorted(given))
        return pool.id

    async def entitle(self, who: Identity, reference: str, entries: list[EntitlementEntry]) -> UUID:
        """Exactly these. Raises `NotFound` (pool), `Invalid` (``user.unknown`` …)."""
        async with self._unit() as transaction:
            pools, identities = Pools(transaction.session), Identities(transaction.session)
            pool = await pools.pool(reference, lock=True)
            _check_stays(pool)
            users = await identities.users_named(entry.user for entry in entries if entry.user)
            groups = []
            for name in dict.fromkeys(entry.group for entry in entries if entry.group):
                try:
                    groups.append((await identities.group(name)).id)
                except NotFound as error:
                    raise Invalid(error.code, error.text, **error.fields) from error
            await pools.set_entitlements(pool.id, users, list(dict.fromkeys(groups)))
            pool.changed()
            self._say(transaction, pool)
        logger.info("pool.entitled", pool=pool.name, by=who.name, entries=len(entries))
        return pool.id

    async def delete(self, who: Identity, reference: str, *, force: bool) -> UUID:
        """Its desktops go one by one. Raises `NotFound`, `Conflict` (``pool.in-use``)."""
        async with self._unit() as transaction:
            pool = await Pools(transaction.session).pool(reference, lock=True)
            if pool.deleting:
                return pool.id
            held = await Sessions(transaction.session).count_open(pool.id)
            if held and not force:
                raise Conflict(
                    "pool.in-use",
                    "{count} desktops of {pool} are in use.",
                    count=held,
                    pool=pool.name,
                )
            pool.delete(log.current("correlation_id"))
            self._say(transaction, pool)
        logger.info("pool.deleting", pool=pool.name, by=who.name, force=force)
        return pool.id

    def _say(self, transaction: Transaction, pool: Pool) -> None:
        pool_id = pool.id
        transaction.emit(pool.fact())
        transaction.after_commit(lambda: self._moved(pool_id))


async def _check_name(transaction: Transaction, name: str) -> None:
    await lock_name(transaction.session, "pool", name)
    if await Pools(transaction.session).exists(name):
        raise Conflict("pool.name-taken", "There is a pool {pool} already.", pool=name)


async def _check_size(transaction: Transaction, spec: DesktopSpec) -> None:
    if not await Placement(transaction.session).accepts(spec):
        raise Invalid(
            "placement.spec-beyond-hosts",
            "No host can run a desktop with {vcpus} vCPUs and {memory_mib} MiB.",
            vcpus=spec.vcpus,
            memory_mib=spec.memory_mib,
        )


def _check_stays(pool: Pool) -> None:
    if pool.deleting:
        raise Conflict("pool.deleting", "The pool {pool} is being deleted.", pool=pool.name)
