"""Storage domains: marked directories, full ones, missing ones, ones that hang."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.needs import require_root
from tests.polling import eventually

from roost_common.contracts.disk import DiskReady, DiskRefused, EnsureDisk
from roost_common.contracts.template import JobFinished, StorageChanged
from roost_imaging import overlay_files
from roost_imaging.layout import Layout

pytestmark = pytest.mark.integration
World = Any
MIB = 1 << 20


async def storage_in(world: World, state: str, name: str = "main") -> dict[str, Any]:
    """The domain once it is in this state."""
    domain: dict[str, Any] = {}

    async def reached() -> dict[str, Any] | None:
        domain.update((await world.http.get(f"/api/v1/storage/{name}")).json())
        return domain if domain["state"] == state else None

    return await eventually(reached, lambda: f"{name} is {state}: {domain}", 30)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../elsewhere", "storage.path-outside"),
        ("/tmp", "storage.path-outside"),
        ("a/../../b", "storage.path-outside"),
        pytest.param("a/" + "x" * 256, "storage.path-too-long", id="long"),
        ("link/below", "storage.not-a-directory"),
        ("file", "storage.not-a-directory"),
    ],
)
async def test_a_domain_lies_inside_the_root(world: World, path: str, code: str) -> None:
    (world.storage / "link").symlink_to("/tmp")
    (world.storage / "file").touch()
    answer = await world.http.post("/api/v1/storage", json={"name": "main", "path": path})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert (await world.http.get("/api/v1/storage")).json()["total"] == 0


async def test_a_domain_bears_its_id_and_is_taken_once(world: World) -> None:
    (world.storage / "main").mkdir()
    body = {"name": "main", "path": str(world.storage / "main")}
    first = await world.http.post("/api/v1/storage", json=body, headers={"Idempotency-Key": "k"})
    assert first.status_code == 201
    marker = world.storage / "main" / ".roost-storage"
    assert marker.read_text().strip() == first.json()["id"]
    again = await world.http.post("/api/v1/storage", json=body, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == first.json()["id"]
    for other, code in (
        ({"name": "main", "path": "other"}, "storage.name-taken"),
        ({"name": "other", "path": "main"}, "storage.path-taken"),
        ({"name": "other", "path": "main/inside"}, "storage.path-taken"),
        ({"name": "other", "path": "."}, "storage.path-taken"),
    ):
        answer = await world.http.post("/api/v1/storage", json=other)
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    # A mark that nobody here knows may be another site's.
    (world.storage / "theirs").mkdir()
    (world.storage / "theirs" / ".roost-storage").write_text(str(uuid4()))
    answer = await world.http.post("/api/v1/storage", json={"name": "x", "path": "theirs"})
    assert (answer.status_code, answer.json()["code"]) == (409, "storage.path-taken")


async def test_of_domains_made_at_once_none_lies_in_another(world: World) -> None:
    paths = ("a", "a", "a/b", "a/b/c")
    answers = await asyncio.gather(
        *(
            world.http.post("/api/v1/storage", json={"name": f"n{number}", "path": path})
            for number, path in enumerate(paths)
        )
    )
    told = sorted((each.status_code, each.json().get("code")) for each in answers)
    assert told == [(201, None), *[(409, "storage.path-taken")] * 3]


async def test_a_domain_is_deleted_only_when_unused(world: World) -> None:
    await world.make_template()
    answer = await world.http.delete("/api/v1/storage/main")
    assert (answer.status_code, answer.json()["code"]) == (409, "storage.in-use")
    assert (await world.http.delete("/api/v1/templates/base")).status_code == 204
    (world.storage / "main" / "other.txt").write_text("somebody else's")
    assert (await world.http.delete("/api/v1/storage/main")).status_code == 204
    assert (await world.http.get("/api/v1/storage/main")).status_code == 404
    assert [path.name for path in (world.storage / "main").iterdir()] == ["other.txt"]
    # The place can be used again.
    assert (await world.make_storage())["state"] == "up"


async def test_without_storage_nothing_is_imported(world: World) -> None:
    world.image("a.qcow2")
    body = {"name": "a", "os": "linux", "source": {"path": "a.qcow2"}}
    answer = await world.http.post("/api/v1/templates", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "storage.none")
    answer = await world.http.post("/api/v1/templates", json={**body, "storage": "nowhere"})
    assert (answer.status_code, answer.json()["code"]) == (404, "storage.unknown")


async def test_a_missing_mount_is_noticed_and_its_return_too(world: World) -> None:
    await world.make_storage()
    mounted, away = world.storage / "main", world.storage / "away"
    mounted.rename(away)
    await storage_in(world, "unavailable")
    world.image("a.qcow2")
    body = {"name": "a", "os": "linux", "source": {"path": "a.qcow2"}}
    answer = await world.http.post("/api/v1/templates", json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage.unavailable")
    away.rename(mounted)
    await storage_in(world, "up")
    states = [event.state for event in await world.hear(StorageChanged, 3)]
    assert states == ["up", "unavailable", "up"]


async def test_below_the_reserve_a_domain_is_full(start: Callable[..., Any]) -> None:
    async with start(min_free_bytes=1 << 60) as world:
        assert (await world.make_storage())["state"] == "full"
        world.image("a.qcow2")
        body = {"name": "a", "os": "linux", "source": {"path": "a.qcow2"}}
        answer = await world.http.post("/api/v1/templates", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage.full")
        assert (await world.http.get("/api/v1/jobs")).json()["total"] == 0


# --- a small file system ------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path, imaging_settings: object) -> Iterator[Path]:
    """A file system of 48 MiB below the storage root."""
    require_root("to mount")
    place = tmp_path / "storage" / "small"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    subprocess.run(["mount", *options], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_file_system_fills_and_recovers(start: Callable[..., Any], small: Path) -> None:
    async with start(min_free_bytes=4 * MIB) as world:
        await world.make_storage("small")
        template = await world.make_template()
        filler = small / "filler"
        filler.write_bytes(b"x" * (small_free(small) - 2 * MIB))
        full = await storage_in(world, "full", "small")
        assert full["free_bytes"] < 4 * MIB
        disk = uuid4()
        await world.bus.publish(world.wish(template, disk))
        refused = (await world.hear(DiskRefused))[0]
        assert (refused.problem.code, refused.retryable) == ("storage.full", True)
        assert not any("desktops" in name for name in world.files())
        filler.unlink()
        await storage_in(world, "up", "small")
        await world.bus.publish(world.wish(template, disk))
        assert (await world.hear(DiskReady))[0].disk_id == disk
        assert [event.state for event in world.of(StorageChanged)] == ["up", "full", "up"]


async def test_an_import_that_cannot_fit_does_not_begin(
    start: Callable[..., Any], small: Path
) -> None:
    async with start() as world:
        await world.make_storage("small")
        world.image("large.qcow2", mib=128, data_mib=64)
        accepted = await world.start_import("large", "large.qcow2")
        job = await world.job(accepted["job_id"])
        assert (job["state"], job["problem"]["code"]) == ("failed", "storage.full")
        assert world.files() == set()
        world.image("little.qcow2")
        accepted = await world.start_import("large", "little.qcow2")
        assert (await world.job(accepted["job_id"]))["state"] == "done"


async def test_a_storage_that_fills_midway_fails_the_job_and_nothing_stays(
    start: Callable[..., Any], small: Path
) -> None:
    async with start(convert_bytes_per_s=4 * MIB) as world:
        await world.make_storage("small")
        world.image("large.qcow2", mib=64, data_mib=30)
        accepted = await world.start_import("large", "large.qcow2")

        async def midway() -> bool:
            job = (await world.http.get(f"/api/v1/jobs/{accepted['job_id']}")).json()
            return bool(job["percent"] >= 20)

        await eventually(midway, "the import is under way", 60)
        filler = small / "filler"
        fill(filler)
        job = await world.job(accepted["job_id"])
        assert (job["state"], job["problem"]["code"]) == ("failed", "storage.full")
        assert (await world.hear(JobFinished))[0].problem.code == "storage.full"
        assert world.files() == {"small/filler"}
        assert (await world.http.get("/api/v1/templates")).json()["items"] == []


async def test_one_domain_that_hangs_holds_up_nobody_else(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(storage_timeout_s=2) as world:
        slow = await world.make_storage("slow")
        await world.make_storage("good")
        templates = {}
        world.image("a.qcow2")
        for name in ("slow", "good"):
            body = {"name": name, "os": "linux", "storage": name, "source": {"path": "a.qcow2"}}
            answer = await world.http.post("/api/v1/templates", json=body)
            await world.job(answer.json()["job_id"])
            templates[name] = answer.json()["id"]
        answers_again = threading.Event()
        prepare = overlay_files.prepare

        def hanging(layout: Layout, *rest: Any) -> bool:
            if layout.storage_id == UUID(slow["id"]):
                answers_again.wait(30)
            return prepare(layout, *rest)

        monkeypatch.setattr(overlay_files, "prepare", hanging)
        try:
            disks = {name: uuid4() for name in templates}
            for name, disk in disks.items():
                await world.bus.publish(wish_of(disk, templates[name]))
            assert (await world.hear(DiskReady))[0].disk_id == disks["good"]
            refused = (await world.hear(DiskRefused))[0]
            assert refused.disk_id == disks["slow"]
            assert (refused.problem.code, refused.retryable) == ("storage.unavailable", True)
            # The watch goes the same way, and sees it.
            await storage_in(world, "unavailable", "slow")
            assert (await storage_in(world, "up", "good"))["state"] == "up"
        finally:
            answers_again.set()
        await storage_in(world, "up", "slow")
        await world.bus.publish(wish_of(disks["slow"], templates["slow"]))
        assert (await world.hear(DiskReady, 2))[1].disk_id == disks["slow"]


def wish_of(disk: UUID, template: str) -> EnsureDisk:
    return EnsureDisk(disk_id=disk, template_id=UUID(template), template_version=1, generation=1)


def small_free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def fill(filler: Path) -> None:
    """Take all that is left."""
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            return
