"""Disks: overlays by generation, answered however often and in whatever order they are asked."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from roost_common.contracts.disk import DiskDeleted, DiskReady, DiskRefused, EnsureDisk
from roost_common.outbox import Relay, UnitOfWork
from roost_common.testing.bus import delivery, twice_and_out_of_order
from roost_common.testing.clock import FakeClock
from roost_imaging.disks import DiskKeeper
from roost_imaging.handlers import Handlers
from roost_imaging.lanes import Lanes
from roost_imaging.qemu_img import QemuImg
from roost_imaging.repository import Disks
from roost_imaging.single import TOMBSTONES_KEPT, Duties
from roost_imaging.states import DiskState

pytestmark = pytest.mark.integration
World = Any


def keeper(world: World) -> DiskKeeper:
    """A second copy of the service's part that makes disks, called without the bus."""
    qemu = QemuImg(1 << 30, 30, 60, short_timeout_s=10, job_timeout_s=60)
    return DiskKeeper(world.unit, qemu, Lanes(10), reserve=world.settings.min_free_bytes)


async def row(world: World, disk_id: UUID) -> Any:
    async with world.unit() as transaction:
        return await Disks(transaction.session).find(disk_id)


async def forget_at(world: World, now: datetime) -> None:
    """The housekeeping of a copy whose clock says ``now``."""
    unit = UnitOfWork(world.database, "imaging", FakeClock(now))
    nobody: Any = None
    relay = Relay(world.database, unit, world.bus)
    await Duties(unit, relay, lease=nobody, storage=nobody, reaper=nobody, on_taken=nobody).forget()


def inode_of(path: str) -> int:
    return Path(path).stat().st_ino


def overlays(world: World) -> set[str]:
    return {Path(name).name for name in world.files() if "/desktops/" in name}


async def test_an_overlay_lies_on_its_template(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    ready = (await world.hear(DiskReady))[0]
    assert (ready.disk_id, ready.generation, ready.format) == (disk, 1, "qcow2")
    assert (str(ready.template_id), ready.template_version) == (template["id"], 1)
    assert ready.virtual_bytes == template["virtual_bytes"]
    info = json.loads(world.qemu_img("info", "--output=json", ready.path))
    base = world.storage / "main" / "templates" / template["id"] / "v1.qcow2"
    assert info["backing-filename"] == str(base)
    assert info["backing-filename-format"] == "qcow2"
    assert info["virtual-size"] == template["virtual_bytes"]
    world.qemu_img("compare", "-F", "qcow2", base, ready.path)

    image = (await world.http.get(f"/api/v1/images/{disk}")).json()
    assert (image["path"], image["template"], image["state"]) == (ready.path, "base", "ready")
    assert (await world.http.get("/api/v1/images?template=base")).json()["total"] == 1
    view = (await world.http.get("/api/v1/templates/base")).json()
    assert view["desktops"] == 1


async def test_asked_again_it_answers_again_and_makes_nothing(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    first = (await world.hear(DiskReady))[0]
    inode = inode_of(first.path)
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady, 2)
    assert inode_of(first.path) == inode


async def test_a_re_image_replaces_the_generation(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    await world.bus.publish(world.wish(template, disk, 2))
    ready = await world.hear(DiskReady, 2)
    assert ready[1].generation == 2
    assert overlays(world) == {"2.qcow2"}
    # What comes late changes nothing.
    await keeper(world).ensure(world.wish(template, disk, 1), delivery(world.wish(template, disk)))
    assert overlays(world) == {"2.qcow2"}
    assert (await row(world, disk)).generation == 2


async def test_deleted_is_deleted(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    await world.bus.publish(world.wish(template, disk, present=False))
    gone = (await world.hear(DiskDeleted))[0]
    assert (gone.disk_id, gone.generation) == (disk, 1)
    assert not (world.storage / "main" / "desktops" / str(disk)).exists()
    # Neither a late wish nor a second deletion brings anything back.
    late = world.wish(template, disk)
    await keeper(world).ensure(late, delivery(late))
    assert (await row(world, disk)).state is DiskState.DELETED
    assert overlays(world) == set()
    await world.bus.publish(world.wish(template, disk, present=False))
    await world.hear(DiskDeleted, 2)
    assert len(world.of(DiskReady)) == 1
    assert (await world.http.get(f"/api/v1/images/{disk}")).status_code == 404


async def test_a_deletion_of_what_never_was_stays(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk, present=False))
    await world.hear(DiskDeleted)
    late = world.wish(template, disk)
    await keeper(world).ensure(late, delivery(late))
    assert overlays(world) == set()


@pytest.mark.parametrize("seed", range(4))
async def test_twice_and_in_any_order(world: World, seed: int) -> None:
    template = await world.make_template()
    disk, kept = uuid4(), uuid4()
    messages = [
        world.wish(template, disk, 1),
        world.wish(template, disk, 2),
        world.wish(template, disk, 2, present=False),
        world.wish(template, kept, 1),
        world.wish(template, kept, 2),
        world.wish(template, kept, 3),
    ]
    await twice_and_out_of_order(Handlers(keeper(world)).handle, messages, seed)
    assert (await row(world, disk)).state is DiskState.DELETED
    after = await row(world, kept)
    assert (after.state, after.generation) == (DiskState.READY, 3)
    assert overlays(world) == {"3.qcow2"}


async def test_many_at_once(world: World) -> None:
    """Copies of the service handle the same wishes at the same time."""
    template = await world.make_template()
    disks = [uuid4() for _ in range(6)]
    first, second = keeper(world), keeper(world)
    wishes = [world.wish(template, disk, number) for disk in disks for number in (1, 2)]
    await asyncio.gather(
        *(one.ensure(wish, delivery(wish)) for wish in wishes for one in (first, second))
    )
    for disk in disks:
        after = await row(world, disk)
        assert (after.state, after.generation) == (DiskState.READY, 2)
        directory = world.storage / "main" / "desktops" / str(disk)
        assert [path.name for path in directory.iterdir()] == ["2.qcow2"]


async def test_a_wish_and_its_deletion_at_once_leave_nothing(world: World) -> None:
    template = await world.make_template()
    one = keeper(world)
    for _ in range(8):
        disk = uuid4()
        wish, gone = world.wish(template, disk), world.wish(template, disk, present=False)
        await asyncio.gather(one.ensure(wish, delivery(wish)), one.ensure(gone, delivery(gone)))
        if (await row(world, disk)).state is DiskState.DELETING:
            await one.finish_deletion(disk)
        assert (await row(world, disk)).state is DiskState.DELETED
        assert not (world.storage / "main" / "desktops" / str(disk)).exists()


async def test_a_template_that_is_not_there_may_come(world: World) -> None:
    await world.make_storage()
    disk, template = uuid4(), uuid4()
    wish = EnsureDisk(disk_id=disk, template_id=template, template_version=1, generation=1)
    await world.bus.publish(wish)
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("template.unknown", True)
    made = await world.make_template()
    wish = world.wish(made, disk).model_copy(update={"template_version": 2})
    await world.bus.publish(wish)
    refused = (await world.hear(DiskRefused, 2))[1]
    assert refused.problem.code == "template.unknown"
    await world.bus.publish(world.wish(made, disk))
    assert (await world.hear(DiskReady))[0].disk_id == disk


async def test_a_vanished_file_is_not_replaced_by_an_empty_one(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    (world.storage / "main" / "desktops" / str(disk) / "1.qcow2").unlink()
    await world.bus.publish(world.wish(template, disk))
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("storage.file-missing", False)
    assert overlays(world) == set()
    await world.bus.publish(world.wish(template, disk, 2))
    assert (await world.hear(DiskReady, 2))[1].generation == 2


async def test_a_generation_has_one_base(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    other = world.wish(template, disk).model_copy(update={"template_version": 2})
    await world.bus.publish(other)
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("disk.generation-taken", False)


async def test_a_maker_that_died_before_saying_so_is_no_harm(world: World) -> None:
    """The overlay is there, nobody knows: it is the one that is then reported."""
    template = await world.make_template()
    disk, one = uuid4(), keeper(world)
    wish = world.wish(template, disk)
    async with world.unit() as transaction:
        task = await one._record(transaction, wish)
    await one._carry_out(wish, task)
    inode = (world.storage / "main" / "desktops" / str(disk) / "1.qcow2").stat().st_ino
    assert (await row(world, disk)).state is DiskState.PENDING
    await world.bus.publish(wish)
    ready = (await world.hear(DiskReady))[0]
    assert inode_of(ready.path) == inode


async def test_a_missing_mount_is_not_written_into(world: World) -> None:
    template = await world.make_template()
    mounted, away = world.storage / "main", world.storage / "elsewhere"
    mounted.rename(away)
    mounted.mkdir()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("storage.unavailable", True)
    assert list(mounted.iterdir()) == []
    mounted.rmdir()
    away.rename(mounted)
    await world.bus.publish(world.wish(template, disk))
    assert (await world.hear(DiskReady))[0].disk_id == disk


async def test_a_deletion_waits_for_its_storage(world: World) -> None:
    template = await world.make_template()
    disk = uuid4()
    await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady)
    mounted, away = world.storage / "main", world.storage / "elsewhere"
    mounted.rename(away)
    await world.bus.publish(world.wish(template, disk, present=False))
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("storage.unavailable", True)
    # It is a tombstone already, and its template is still held.
    assert (await row(world, disk)).state is DiskState.DELETING
    answer = await world.http.delete("/api/v1/templates/base")
    assert answer.json()["code"] == "template.in-use"
    away.rename(mounted)
    # Nobody asks again: the reaper finishes it.
    assert (await world.hear(DiskDeleted))[0].disk_id == disk
    assert overlays(world) == set()


async def test_the_template_s_file_gone_is_said(world: World) -> None:
    template = await world.make_template()
    shutil.rmtree(world.storage / "main" / "templates" / template["id"])
    await world.bus.publish(world.wish(template, uuid4()))
    refused = (await world.hear(DiskRefused))[0]
    assert (refused.problem.code, refused.retryable) == ("template.file-missing", False)
    assert overlays(world) == set()


async def test_a_tombstone_ends_when_no_message_can_come_any_more(world: World) -> None:
    template = await world.make_template()
    deleted, kept = uuid4(), uuid4()
    for disk in (deleted, kept):
        await world.bus.publish(world.wish(template, disk))
    await world.hear(DiskReady, 2)
    await world.bus.publish(world.wish(template, deleted, present=False))
    await world.hear(DiskDeleted)
    end = datetime.now(UTC) + TOMBSTONES_KEPT
    await forget_at(world, end - timedelta(hours=1))
    assert (await row(world, deleted)).state is DiskState.DELETED
    await forget_at(world, end + timedelta(hours=1))
    assert await row(world, deleted) is None
    assert (await row(world, kept)).state is DiskState.READY
