"""``/api/v1/migrations``: desktops on their way from host to host."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from roost_common.errors import Invalid, NotFound
from roost_common.http import Admin, Page, Paging, encode_cursor
from roost_inventory.api.desktop_access import host_name, order_by, require_living, to_change
from roost_inventory.api.parts import Service
from roost_inventory.model.migration import MigrationState
from roost_inventory.repository import Desktops, Hosts, MigrationFilter, Migrations
from roost_inventory.schemas import MigrateRequest, MigrationAnswer

router = APIRouter(prefix="/api/v1", tags=["migrations"])


@router.post(
    "/desktops/{key}/migrate",
    status_code=202,
    responses={202: {"description": "It is under way; poll ``Location``"}},
)
async def migrate_desktop(
    service: Service,
    caller: Admin,
    key: str,
    response: Response,
    how: MigrateRequest | None = None,
) -> MigrationAnswer:
    """Move a running desktop to another host; its user does not notice."""
    async with service.unit_of_work() as transaction:
        desktop = await to_change(transaction, caller, key)
        require_living(desktop)
        target = None
        if how is not None and how.host is not None:
            target = await Hosts(transaction.session).name_of(how.host)
            if target is None:
                raise Invalid("host.unknown", "There is no host {host}.", host=how.host)
        migration = await service.migrating.begin(
            transaction,
            desktop,
            target,
            f"{caller.name} asked for it.",
            order_by(service).correlation_id,
        )
        response.headers["Location"] = f"/api/v1/migrations/{migration.id}"
        return MigrationAnswer.of(migration)


@router.get("/migrations")
async def list_migrations(
    *,
    service: Service,
    caller: Admin,
    paging: Paging,
    desktop: Annotated[str | None, Query(max_length=63)] = None,
    host: Annotated[str | None, Query(max_length=253)] = None,
    state: Annotated[list[MigrationState] | None, Query()] = None,
) -> Page[MigrationAnswer]:
    """Migrations, the newest first; ``host`` is either of the two."""
    async with service.unit_of_work() as transaction:
        which = MigrationFilter(
            desktop=desktop,
            host=None if host is None else await host_name(transaction, host),
            states=tuple(state or ()),
        )
        found, total = await Migrations(transaction.session).page(
            which, limit=paging.limit + 1, before=_before(paging.after)
        )
        page = found[: paging.limit]
        items = [MigrationAnswer.of(one) for one in page]
    more = None
    if len(found) > paging.limit:
        more = encode_cursor(page[-1].created_at.isoformat(), str(page[-1].id))
    return Page(items=items, next=more, total=total)


@router.get("/migrations/{migration_id}")
async def get_migration(service: Service, caller: Admin, migration_id: UUID) -> MigrationAnswer:
    """One migration, under way or over."""
    async with service.unit_of_work() as transaction:
        migration = await Migrations(transaction.session).get(migration_id)
        if migration is None:
            raise _unknown(migration_id)
        return MigrationAnswer.of(migration)


@router.delete("/migrations/{migration_id}", status_code=202)
async def cancel_migration(
    service: Service, caller: Admin, migration_id: UUID, response: Response
) -> MigrationAnswer:
    """Give it up, if that is still possible; the desktop goes on where it runs."""
    async with service.unit_of_work() as transaction:
        migrations = Migrations(transaction.session)
        desktop_id = await migrations.desktop_of(migration_id)
        if desktop_id is None:
            raise _unknown(migration_id)
        desktop = await Desktops(transaction.session).lock(desktop_id)
        if (
            desktop is not None
            and desktop.migration is not None
            and desktop.migration.id == migration_id
        ):
            service.migrating.cancel(transaction, desktop)
        migration = await migrations.get(migration_id)
        if migration is None:
            raise _unknown(migration_id)
        response.headers["Location"] = f"/api/v1/migrations/{migration_id}"
        return MigrationAnswer.of(migration)


def _before(after: tuple[str, ...] | None) -> tuple[datetime, UUID] | None:
    if after is None:
        return None
    try:
        when, which = after
        return datetime.fromisoformat(when), UUID(which)
    except ValueError as error:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.") from error


def _unknown(migration_id: UUID) -> NotFound:
    return NotFound("migration.unknown", "There is no migration {id}.", id=str(migration_id))
