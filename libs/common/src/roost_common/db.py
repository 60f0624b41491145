"""The database: engine, base of the mapped classes, translation of its errors, migrations.

Every service lives in a schema of its own. The schema is the connection's ``search_path``, so
models and migrations name no schema, and one service cannot read another's tables by accident.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, cast
from uuid import UUID

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateSchema

from roost_common import log
from roost_common.errors import Conflict, Invalid, Outage, RoostError, Unavailable

logger = log.get_logger(__name__)

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Stable constraint names, so that migrations can drop what they made."""

VALUE_REFUSED: Final = "request.value-refused"

_RETRY_STATES: Final = frozenset({"40001", "40P01", "55P03"})
"""serialization_failure, deadlock_detected, lock_not_available (PostgreSQL, appendix A)."""
_OUTAGE_CLASSES: Final = frozenset({"08", "57", "53"})
"""Connection exception, operator intervention (shutdown), insufficient resources."""
_DATA_CLASS: Final = "22"
"""Data exception. asyncpg's own refusals of a value, which never reach the server, have it too."""
_NUL_STATES: Final = frozenset({"22021", "22P05"})
"""character_not_in_repertoire (text), untranslatable_character (JSON): PostgreSQL holds everything
but NUL."""


class Base(DeclarativeBase):
    """Base of a service's mapped classes; each service derives one with its own ``metadata``."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: sa.DateTime(timezone=True),
        UUID: sa.Uuid(),
        dict[str, Any]: postgresql.JSONB(),
    }


def new_metadata() -> sa.MetaData:
    """Metadata with Roost's constraint names, for a service's ``Base``."""
    return sa.MetaData(naming_convention=NAMING)


def newest(entity: type[Base], number: str, *changing: str, key: str = "id") -> postgresql.Insert:
    """A row that is new, or whose ``number`` is greater than that of the row with its ``key``.

    Of the latter only ``number`` and ``changing`` are written. To be made once and executed with
    each row: to build a statement takes longer than to execute it.
    """
    table = cast(sa.Table, entity.__table__)
    insert = postgresql.insert(table)
    return insert.on_conflict_do_update(
        index_elements=[key],
        set_={name: insert.excluded[name] for name in (number, *changing)},
        where=table.c[number] < insert.excluded[number],
    )


def translate(error: Exception) -> RoostError | None:  # noqa: PLR0911 - one line for each kind
    """The error of ours that a database error means, or None where it is a bug."""
    if isinstance(error, (ConnectionError, TimeoutError, exc.TimeoutError, exc.InterfaceError)):
        return Outage("database.unavailable", "The database does not answer.")
    if not isinstance(error, exc.DBAPIError):
        return None
    state = str(getattr(error.orig, "sqlstate", "") or "")
    if state in _RETRY_STATES:
        return Unavailable("database.busy", "Another transaction was in the way.")
    if error.connection_invalidated or state[:2] in _OUTAGE_CLASSES:
        return Outage("database.unavailable", "The database does not answer.")
    if state in _NUL_STATES:
        return Invalid("request.invalid-text", "Text may not contain the character NUL.")
    if state[:2] == _DATA_CLASS:
        return Invalid(VALUE_REFUSED, "A value is not one that can be stored.")
    if isinstance(error, exc.IntegrityError):
        return Conflict("database.conflict", "Another change came first.")
    return None


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Database errors inside the block leave it as errors of ours."""
    try:
        yield
    except (exc.SQLAlchemyError, ConnectionError, TimeoutError) as error:
        ours = translate(error)
        if ours is None:
            raise
        if ours.code == VALUE_REFUSED:
            # A border that should have refused it did not. The error's text may hold the value.
            statement = getattr(error, "statement", None)
            logger.warning("database.value-refused", statement=statement)
        raise ours from error


class Database:
    """One service's engine and sessions."""

    def __init__(self, url: str, schema: str, *, pool: int = 10) -> None:
        self.url = url
        self.schema = schema
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            # An error's text ends in logs; bound values may be secrets.
            hide_parameters=True,
            connect_args={
                "timeout": 5,
                "command_timeout": 30,
                "server_settings": {"search_path": schema, "application_name": f"roost-{schema}"},
            },
        )
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)

    async def ping(self) -> None:
        """Raises `Outage` unless the database answers."""
        async with translated(), self.engine.connect() as connection:
            await connection.execute(sa.text("select 1"))

    async def close(self) -> None:
        """Give all connections back."""
        await self.engine.dispose()


class Migrations:
    """A service's migrations: where they stand and which models they must lead to."""

    def __init__(self, schema: str, folder: Path, metadata: sa.MetaData) -> None:
        self.schema = schema
        self.folder = folder
        self.metadata = metadata

    def _config(self, url: str) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self.folder))
        config.attributes["roost"] = (self, url)
        return config

    async def upgrade(self, url: str) -> None:
        """Bring the schema up to date; several copies may do so at once."""
        await asyncio.to_thread(command.upgrade, self._config(url), "head")

    async def check(self, url: str) -> None:
        """Raises alembic's `CommandError` when models and migrations differ."""
        await asyncio.to_thread(command.check, self._config(url))

    async def revision(self, url: str, message: str) -> None:
        """Write the next migration from what the models have and the database has not."""
        await asyncio.to_thread(
            command.revision, self._config(url), message=message, autogenerate=True
        )


def run_environment(environment: EnvironmentContext) -> None:
    """What a service's ``migrations/env.py`` calls."""
    migrations, url = environment.config.attributes["roost"]
    asyncio.run(_migrate(environment, migrations, url))


async def _migrate(environment: EnvironmentContext, migrations: Migrations, url: str) -> None:
    database = Database(url, migrations.schema, pool=1)
    try:
        async with database.engine.connect() as connection:
            await _prepare(connection, migrations.schema)
            await connection.run_sync(_run, environment, migrations)
            await connection.commit()
    finally:
        await database.close()


async def _prepare(connection: AsyncConnection, schema: str) -> None:
    # Copies that start together take turns; the lock ends with the connection.
    await connection.execute(
        sa.text("select pg_advisory_lock(hashtext(:name))"), {"name": f"roost-migrate-{schema}"}
    )
    await connection.execute(CreateSchema(schema, if_not_exists=True))
    await connection.commit()


def _run(
    connection: sa.Connection, environment: EnvironmentContext, migrations: Migrations
) -> None:
    environment.configure(
        connection=connection,
        target_metadata=migrations.metadata,
        compare_type=True,
        compare_server_default=True,
    )
    with environment.begin_transaction():
        environment.run_migrations()


__all__ = [
    "AsyncSession",
    "Base",
    "Database",
    "Migrations",
    "new_metadata",
    "newest",
    "run_environment",
    "translate",
    "translated",
]
