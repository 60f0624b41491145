"""What becomes of rows that older versions wrote."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from alembic import command

from roost_common.db import Database
from roost_imaging.migrations import MIGRATIONS
from roost_lab.postgres import PostgresServer

pytestmark = pytest.mark.integration

OLD_DISKS = """
insert into disks (id, generation, state, virtual_bytes, used_bytes, created_at) values
    ('00000000-0000-0000-0000-000000000001', 1, 'deleted', 0, 0, now()),
    ('00000000-0000-0000-0000-000000000002', 1, 'pending', 0, 0, now())
"""


async def test_old_tombstones_end_too(postgres: PostgresServer) -> None:
    postgres.create_database("imaging_before_0002")
    url = postgres.url("imaging_before_0002")
    config = MIGRATIONS._config(url)
    await asyncio.to_thread(command.upgrade, config, "0001")
    database = Database(url, MIGRATIONS.schema, pool=1)
    try:
        async with database.engine.begin() as connection:
            await connection.execute(sa.text(OLD_DISKS))
        await MIGRATIONS.upgrade(url)
        async with database.engine.connect() as connection:
            rows = await connection.execute(
                sa.text("select state, deleted_at is not null from disks order by id")
            )
            assert [tuple(row) for row in rows] == [("deleted", True), ("pending", False)]
    finally:
        await database.close()
    await asyncio.to_thread(command.downgrade, config, "0001")
    postgres.drop_database("imaging_before_0002")
