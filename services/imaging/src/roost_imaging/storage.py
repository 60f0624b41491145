"""Storage domains: making, forgetting, and watching their capacity.

A domain is mounted at the same path on this service's machine and on every node: an overlay names
its base by that path.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from roost_common import idempotency, log
from roost_common.contracts.template import StorageChanged
from roost_common.errors import Conflict, RoostError
from roost_common.names import lock_name
from roost_common.outbox import Transaction, UnitOfWork
from roost_imaging import capacity, metrics, storage_files
from roost_imaging.lanes import Lanes
from roost_imaging.layout import Layout
from roost_imaging.model import StorageDomain
from roost_imaging.repository import StorageDomains
from roost_imaging.schemas import NewStorage
from roost_imaging.states import StorageState
from roost_imaging.storage_files import Capacity

logger = log.get_logger(__name__)


class StorageKeeper:
    """Makes, watches and forgets storage domains."""

    def __init__(
        self, unit_of_work: UnitOfWork, lanes: Lanes, *, storage_root: Path, reserve: int
    ) -> None:
        self._unit = unit_of_work
        self._lanes = lanes
        self._root = storage_root
        self._reserve = reserve

    async def create(self, wish: NewStorage, actor: str, key: str | None) -> StorageDomain:
        """Mark a directory as a storage domain, making it if need be.

        Raises `Invalid` (``storage.path-outside``, ``storage.not-a-directory``), `Conflict`
        (``storage.name-taken``, ``storage.path-taken``), `Unavailable`.
        """
        parts = storage_files.parts_of(wish.path, self._root)
        layout = Layout(uuid4(), self._root.joinpath(*parts))
        lane = self._lanes.of(layout.storage_id)
        marked = False
        try:
            async with self._unit() as transaction:
                earlier = await idempotency.claim(
                    transaction,
                    actor=actor,
                    key=key,
                    request=wish,
                    resource_id=layout.storage_id,
                    now=self._unit.clock.now(),
                )
                domains = StorageDomains(transaction.session)
                if earlier is not None:
                    return await domains.get(str(earlier))
                # One at a time, whatever their names: none may lie within another.
                await lock_name(transaction.session, "storage", "")
                await self._require_free(domains, wish.name, layout.root)
                found = await lane.run(
                    storage_files.create_domain, parts, self._root, layout.storage_id
                )
                marked = True
                domain = self._new_domain(wish.name, layout, found)
                transaction.session.add(domain)
                await transaction.session.flush()
                _say(transaction, domain)
        except BaseException:
            if marked:
                await lane.run(storage_files.remove_domain, layout)
            raise
        logger.info("storage.created", storage=domain.name, state=domain.state.value)
        return domain

    async def delete(self, key: str) -> None:
        """Forget a domain without templates and disks; other files in it stay.

        Raises `NotFound`, `Conflict` (``storage.in-use``).
        """
        async with self._unit() as transaction:
            domains = StorageDomains(transaction.session)
            domain = await domains.get(key, lock=True)
            templates = await domains.template_counts([domain.id])
            disks = await domains.disk_counts([domain.id])
            if templates or disks:
                raise Conflict(
                    "storage.in-use",
                    "Storage domain {storage} holds {templates} templates and {disks} disks.",
                    storage=domain.name,
                    templates=templates.get(domain.id, 0),
                    disks=disks.get(domain.id, 0),
                )
            layout = domain.layout
            await transaction.session.delete(domain)
        # Only now: with the mark gone and the row still there, it would be unavailable for ever.
        await self._unmark(layout)
        metrics.forget_storage(domain.name)
        logger.info("storage.deleted", storage=domain.name)

    async def watch(self, storage_id: UUID) -> None:
        """Look at one domain, and say so when its state has changed."""
        async with self._unit() as transaction:
            domain = await StorageDomains(transaction.session).get(str(storage_id))
            layout = domain.layout
        found: Capacity | None = None
        code: str | None = None
        try:
            found = await self._lanes.of(storage_id).run(storage_files.capacity, layout)
        except RoostError as error:
            code = error.code
        async with self._unit() as transaction:
            domain = await StorageDomains(transaction.session).get(str(storage_id), lock=True)
            state = capacity.state_of(found, self._reserve, domain.state)
            changed = state is not domain.state
            _observe(domain, state, found)
            domain.checked_at = self._unit.clock.now()
            if changed:
                _say(transaction, domain)
        if changed:
            logger.warning("storage.changed", storage=domain.name, state=state.value, code=code)
        metrics.STORAGE_USABLE.labels(domain.name).set(state is StorageState.UP)
        for kind in ("total", "used", "free"):
            metrics.STORAGE_BYTES.labels(domain.name, kind).set(getattr(domain, f"{kind}_bytes"))

    async def _unmark(self, layout: Layout) -> None:
        try:
            await self._lanes.of(layout.storage_id).run(storage_files.remove_domain, layout)
        except RoostError as error:
            logger.warning("storage.mark-stays", path=str(layout.root), code=error.code)

    async def _require_free(self, domains: StorageDomains, name: str, root: Path) -> None:
        for other in await domains.all():
            if other.name == name:
                raise Conflict(
                    "storage.name-taken", "There is a storage domain {storage}.", storage=name
                )
            path = Path(other.path)
            if root.is_relative_to(path) or path.is_relative_to(root):
                raise Conflict(
                    "storage.path-taken",
                    "Storage domain {storage} lies in that place.",
                    storage=other.name,
                )

    def _new_domain(self, name: str, layout: Layout, found: Capacity) -> StorageDomain:
        now = self._unit.clock.now()
        domain = StorageDomain(
            id=layout.storage_id,
            name=name,
            path=str(layout.root),
            state=StorageState.UP,
            created_at=now,
            checked_at=now,
        )
        _observe(domain, capacity.state_of(found, self._reserve, StorageState.UP), found)
        return domain


def _observe(domain: StorageDomain, state: StorageState, found: Capacity | None) -> None:
    domain.state = state
    if found is not None:
        domain.total_bytes, domain.used_bytes, domain.free_bytes = (
            found.total,
            found.used,
            found.free,
        )


def _say(transaction: Transaction, domain: StorageDomain) -> None:
    transaction.emit(
        StorageChanged(
            storage_id=domain.id,
            storage_name=domain.name,
            state=domain.state.value,
            total_bytes=domain.total_bytes,
            free_bytes=domain.free_bytes,
        )
    )
