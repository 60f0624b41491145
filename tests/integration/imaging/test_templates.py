"""Deleting templates while disks are wished for; the reaper; the saving; the migrations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from tests.polling import eventually

from roost_common.contracts.disk import DiskReady
from roost_common.contracts.template import TemplateDeleted
from roost_common.testing.bus import delivery
from roost_imaging.disks import DiskKeeper
from roost_imaging.lanes import Lanes
from roost_imaging.migrations import MIGRATIONS
from roost_imaging.qemu_img import QemuImg
from roost_imaging.repository import Disks, Templates
from roost_imaging.states import DiskState

pytestmark = pytest.mark.integration
World = Any


def keeper(world: World) -> DiskKeeper:
    qemu = QemuImg(1 << 30, 30, 60, short_timeout_s=10, job_timeout_s=60)
    return DiskKeeper(world.unit, qemu, Lanes(10), reserve=world.settings.min_free_bytes)


async def somebody_waits_for_a_lock(world: World) -> None:
    query = sa.text(
        "select count(*) from pg_stat_activity"
        " where wait_event_type = 'Lock' and datname = current_database()"
    )

    async def waits() -> bool:
        async with world.unit() as transaction:
            return bool(await transaction.session.scalar(query))

    await eventually(waits, "somebody waits for a lock")


async def test_a_template_without_desktops_goes(world: World) -> None:
    template = await world.make_template()
    assert (await world.http.delete("/api/v1/templates/base")).status_code == 204
    assert world.files() == set()
    assert (await world.http.get(f"/api/v1/templates/{template['id']}")).status_code == 404
    gone = (await world.hear(TemplateDeleted))[0]
    assert (str(gone.template_id), gone.template_name) == (template["id"], "base")
    assert (await world.http.delete("/api/v1/templates/base")).status_code == 404


async def test_a_template_with_desktops_stays(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    answer = await world.http.delete("/api/v1/templates/base")
    assert (answer.status_code, answer.json()["code"]) == (409, "template.in-use")
    assert answer.json()["desktops"] == 1
    await world.bus.publish(world.wish(template, disk, present=False))

    async def taken() -> bool:
        answer = await world.http.delete("/api/v1/templates/base")
        return bool(answer.status_code != 409)

    await eventually(taken, "it has no desktops any more")
    assert world.files() == set()


async def test_a_deletion_waits_for_a_disk_that_is_being_recorded(world: World) -> None:
    template = await world.make_template()
    one, disk = keeper(world), uuid4()
    async with world.unit() as transaction:
        await one._record(transaction, world.wish(template, disk))
        await transaction.session.flush()
        deleting = asyncio.create_task(world.http.delete("/api/v1/templates/base"))
        await somebody_waits_for_a_lock(world)
    answer = await deleting
    assert (answer.status_code, answer.json()["code"]) == (409, "template.in-use")
    assert (await world.http.get("/api/v1/templates/base")).json()["state"] == "ready"


async def test_a_disk_waits_for_a_deletion_that_is_being_recorded(world: World) -> None:
    template = await world.make_template()
    one, disk = keeper(world), uuid4()
    wish = world.wish(template, disk)
    async with world.unit() as transaction:
        row = await Templates(transaction.session).get("base", lock=True)
        row.mark_deleting()
        await transaction.session.flush()
        making = asyncio.create_task(one.ensure(wish, delivery(wish)))
        await somebody_waits_for_a_lock(world)
    await making
    async with world.unit() as transaction:
        assert await Disks(transaction.session).find(disk) is None
    # The reaper goes on with the deletion.
    await world.hear(TemplateDeleted)
    assert world.files() == set()


async def test_a_race_of_wishes_and_a_deletion_has_one_winner(world: World) -> None:
    one = keeper(world)
    for number in range(5):
        template = await world.make_template(f"base{number}")
        disks = [uuid4() for _ in range(3)]
        wishes = [world.wish(template, disk) for disk in disks]
        answer, *_ = await asyncio.gather(
            world.http.delete(f"/api/v1/templates/base{number}"),
            *(one.ensure(wish, delivery(wish)) for wish in wishes),
        )
        async with world.unit() as transaction:
            rows = [await Disks(transaction.session).find(disk) for disk in disks]
        base = f"main/templates/{template['id']}/v1.qcow2"
        if answer.status_code == 204:
            assert rows == [None, None, None]
            assert base not in world.files()
        else:
            assert answer.json()["code"] == "template.in-use"
            assert base in world.files()
            made = [row for row in rows if row is not None]
            assert made
            assert all(row.state is DiskState.READY for row in made)


async def test_a_deletion_goes_on_when_its_storage_is_back(world: World) -> None:
    await world.make_template()
    mounted, away = world.storage / "main", world.storage / "away"
    mounted.rename(away)
    assert (await world.http.delete("/api/v1/templates/base")).status_code == 202
    assert (await world.http.get("/api/v1/templates/base")).json()["state"] == "deleting"
    away.rename(mounted)
    await world.hear(TemplateDeleted)
    assert world.files() == set()


async def test_the_reaper_removes_leftovers_and_nothing_else(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk, 3))
    await world.hear(DiskReady)
    main = world.storage / "main"
    overlays, versions = main / "desktops" / str(disk), main / "templates" / template["id"]
    stranger = main / "desktops" / str(uuid4())
    stranger.mkdir()
    fresh = overlays / f".4.{uuid4()}.part"
    stale = overlays / f".2.{uuid4()}.part"
    kept = {overlays / "3.qcow2", versions / "v1.qcow2", stranger / "1.qcow2", fresh}
    gone = {
        overlays / "2.qcow2",
        stale,
        versions / f".v2.{uuid4()}.1.part",
        main / "templates" / str(uuid4()) / f".v1.{uuid4()}.2.part",
    }
    for path in (kept | gone) - {overlays / "3.qcow2", versions / "v1.qcow2"}:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    os.utime(stale, (time() - 3600, time() - 3600))

    def left() -> list[Path]:
        return [path for path in gone if path.exists()]

    await eventually(lambda: not left(), lambda: f"these are removed: {left()}")
    assert all(path.exists() for path in kept)
    assert len(list((main / "templates").iterdir())) == 1


async def test_the_saving_is_measured(world: World) -> None:
    template = await world.make_template()
    disks = [uuid4() for _ in range(4)]
    for disk in disks:
        await world.bus.publish(world.wish(template, disk))
    ready = await world.hear(DiskReady, 4)
    await grown(world, ready[0].path)
    base = template["used_bytes"]
    assert base >= 2 << 20
    view: dict[str, Any] = {}

    async def measured() -> int | None:
        view.update((await world.http.get("/api/v1/templates/base")).json())
        written = sum(allocated(one.path) for one in ready)
        return written if view["overlay_bytes"] == written and written > 1 << 20 else None

    expected = await eventually(measured, lambda: f"what is written is counted: {view}")
    assert view["desktops"] == 4
    assert view["saved_bytes"] == max(0, 4 * base - (base + expected))
    assert view["saved_bytes"] > 0
    image = (await world.http.get(f"/api/v1/images/{ready[0].disk_id}")).json()
    assert image["used_bytes"] > 1 << 20
    pages = (await world.http.get("/api/v1/images?limit=3")).json()
    rest = (await world.http.get(f"/api/v1/images?limit=3&cursor={pages['next']}")).json()
    seen = [item["id"] for item in pages["items"] + rest["items"]]
    assert seen == sorted(str(disk) for disk in disks)


def allocated(path: str) -> int:
    return Path(path).stat().st_blocks * 512


async def grown(world: World, path: str) -> None:
    """A guest writes into its disk."""
    await asyncio.to_thread(world.qemu_io, path, "qcow2", "write -P 9 6M 1M", "flush")


async def test_models_and_migrations_agree(
    new_database: Callable[..., Awaitable[str]],
) -> None:
    await MIGRATIONS.check(await new_database(MIGRATIONS))


async def test_ids_and_names_are_interchangeable(world: World) -> None:
    template = await world.make_template()
    assert (await world.http.get(f"/api/v1/templates/{template['id']}")).json() == template
    answer = await world.http.post("/api/v1/storage", json={"name": str(UUID(int=1)), "path": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
