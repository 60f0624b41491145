"""Imports of all three formats, versions, idempotency, paging."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest

from roost_common.contracts.template import JobFinished, StorageChanged, TemplateCreated

pytestmark = pytest.mark.integration
World = Any


def _make(world: World, name: str) -> str:
    """An image of the kind that its name says."""
    world.image("source.qcow2")
    match name:
        case "qcow2":
            return "source.qcow2"
        case "raw":
            world.qemu_img("convert", "-O", "raw", "source.qcow2", "disk.raw")
            return "disk.raw"
        case "img":
            world.qemu_img("convert", "-O", "raw", "source.qcow2", "disk.img")
            return "disk.img"
        case "compressed":
            world.qemu_img("convert", "-c", "-O", "qcow2", "source.qcow2", "small.img")
            return "small.img"
        case "snapshot":
            world.qemu_img("snapshot", "-c", "before", "source.qcow2")
            return "source.qcow2"
        case _:
            options = f"subformat={name}"
            world.qemu_img("convert", "-O", "vmdk", "-o", options, "source.qcow2", "disk.vmdk")
            return "disk.vmdk"


@pytest.mark.parametrize(
    "kind",
    ["qcow2", "raw", "img", "compressed", "snapshot", "monolithicSparse", "streamOptimized"],
)
async def test_an_image_becomes_a_template_with_the_same_content(world: World, kind: str) -> None:
    storage = await world.make_storage()
    path = _make(world, kind)
    accepted = await world.start_import("base", path)
    job = await world.job(accepted["job_id"])
    assert (job["state"], job["percent"], job["problem"]) == ("done", 100.0, None)

    template = (await world.http.get("/api/v1/templates/base")).json()
    assert template["id"] == accepted["id"]
    assert template["state"] == "ready"
    assert template["version"] == 1
    assert template["virtual_bytes"] == 8 << 20
    file = Path(storage["path"]) / "templates" / template["id"] / "v1.qcow2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert template["versions"][0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    world.qemu_img("compare", "-F", "qcow2", world.imports / path, file)
    assert world.files() == {f"main/templates/{template['id']}/v1.qcow2"}

    created = (await world.hear(TemplateCreated))[0]
    assert (created.template_name, created.version) == ("base", 1)
    assert created.virtual_bytes == 8 << 20
    finished = (await world.hear(JobFinished))[0]
    assert (str(finished.job_id), finished.state) == (accepted["job_id"], "done")


async def test_the_location_names_the_job(world: World) -> None:
    await world.make_storage()
    world.image("a.qcow2")
    answer = await world.http.post(
        "/api/v1/templates",
        json={"name": "a", "os": "windows-10", "source": {"path": str(world.imports / "a.qcow2")}},
    )
    assert answer.status_code == 202
    job = (await world.http.get(answer.headers["Location"])).json()
    assert job["id"] == answer.json()["job_id"]
    assert job["template"] == "a"
    await world.job(job["id"])


async def test_a_repeated_create_makes_one_template(world: World) -> None:
    await world.make_storage()
    world.image("a.qcow2")
    body = {"name": "a", "os": "linux", "source": {"path": "a.qcow2"}}
    key = {"Idempotency-Key": "k-1"}
    first = await world.http.post("/api/v1/templates", json=body, headers=key)
    await world.job(first.json()["job_id"])
    (world.imports / "a.qcow2").unlink()
    again = await world.http.post("/api/v1/templates", json=body, headers=key)
    assert again.status_code == 202
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["Location"] == first.headers["Location"]
    other = await world.http.post("/api/v1/templates", json={**body, "name": "b"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key-reused")
    assert (await world.http.get("/api/v1/templates")).json()["total"] == 1


async def test_a_second_version_stands_beside_the_first(world: World) -> None:
    template = await world.make_template()
    world.image("newer.qcow2", mib=16)
    answer = await world.http.post(
        "/api/v1/templates/base/versions", json={"source": {"path": "newer.qcow2"}}
    )
    assert answer.status_code == 202, answer.text
    assert (await world.job(answer.json()["job_id"]))["state"] == "done"
    after = (await world.http.get(f"/api/v1/templates/{template['id']}")).json()
    assert [version["version"] for version in after["versions"]] == [1, 2]
    assert after["version"] == 2
    assert after["virtual_bytes"] == 16 << 20
    listed = (await world.http.get("/api/v1/templates/base/versions")).json()
    assert [version["state"] for version in listed["items"]] == ["ready", "ready"]
    assert [event.version for event in await world.hear(TemplateCreated, 2)] == [1, 2]


async def test_a_failed_version_leaves_the_template_as_it_was(world: World) -> None:
    template = await world.make_template()
    before = world.files()
    world.image("broken.qcow2", mib=20, data_mib=8)
    _truncate(world.imports / "broken.qcow2", 4_000_000)
    answer = await world.http.post(
        "/api/v1/templates/base/versions", json={"source": {"path": "broken.qcow2"}}
    )
    job = await world.job(answer.json()["job_id"])
    assert (job["state"], job["problem"]["code"]) == ("failed", "image.truncated")
    after = (await world.http.get("/api/v1/templates/base")).json()
    assert after["versions"] == template["versions"]
    assert world.files() == before


async def test_of_those_who_want_a_name_at_once_one_gets_it(world: World) -> None:
    await world.make_storage()
    world.image("a.qcow2")
    body = {"name": "base", "os": "linux", "source": {"path": "a.qcow2"}}
    answers = await asyncio.gather(
        *(world.http.post("/api/v1/templates", json=body) for _ in range(8))
    )
    told = sorted((each.status_code, each.json().get("code")) for each in answers)
    assert told == [(202, None), *[(409, "template.name-taken")] * 7]
    (made,) = [each.json() for each in answers if each.status_code == 202]
    assert (await world.job(made["job_id"]))["state"] == "done"


async def test_names_are_taken_once_and_checksums_are_compared(world: World) -> None:
    await world.make_template()
    body = {"name": "base", "os": "linux", "source": {"path": "base.qcow2"}}
    answer = await world.http.post("/api/v1/templates", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "template.name-taken")

    good = hashlib.sha256((world.imports / "base.qcow2").read_bytes()).hexdigest()
    accepted = await world.start_import("good", "base.qcow2", sha256=good.upper())
    assert (await world.job(accepted["job_id"]))["state"] == "done"
    accepted = await world.start_import("bad", "base.qcow2", sha256="0" * 64)
    job = await world.job(accepted["job_id"])
    assert job["problem"]["code"] == "image.checksum-mismatch"
    assert (await world.http.get("/api/v1/templates/bad")).status_code == 404


async def test_lists_have_pages(world: World) -> None:
    await world.make_storage()
    world.image("a.qcow2")
    for name in ("c", "a", "b"):
        await world.job((await world.start_import(name, "a.qcow2"))["job_id"])
    first = (await world.http.get("/api/v1/templates?limit=2")).json()
    assert [item["name"] for item in first["items"]] == ["a", "b"]
    assert first["total"] == 3
    second = (await world.http.get(f"/api/v1/templates?limit=2&cursor={first['next']}")).json()
    assert [item["name"] for item in second["items"]] == ["c"]
    assert second["next"] is None
    jobs = (await world.http.get("/api/v1/jobs?limit=2")).json()
    assert [job["template"] for job in jobs["items"]] == ["b", "a"]
    rest = (await world.http.get(f"/api/v1/jobs?limit=2&cursor={jobs['next']}")).json()
    assert [job["template"] for job in rest["items"]] == ["c"]
    assert (await world.http.get("/api/v1/jobs?state=failed")).json()["total"] == 0
    forged = await world.http.get(f"/api/v1/jobs?cursor={first['next']}")
    assert (forged.status_code, forged.json()["code"]) == (422, "request.cursor-invalid")


async def test_users_read_templates_and_nothing_else(world: World) -> None:
    await world.make_template()
    assert (await world.user.get("/api/v1/templates/base")).status_code == 200
    assert (await world.user.get("/api/v1/templates")).json()["total"] == 1
    for path in ("storage", "images", "jobs"):
        assert (await world.user.get(f"/api/v1/{path}")).status_code == 403
    body = {"name": "x", "os": "linux", "source": {"path": "base.qcow2"}}
    assert (await world.user.post("/api/v1/templates", json=body)).status_code == 403
    assert (await world.user.delete("/api/v1/templates/base")).status_code == 403


async def test_a_new_storage_domain_says_so(world: World) -> None:
    storage = await world.make_storage()
    assert storage["state"] == "up"
    assert storage["total_bytes"] >= storage["free_bytes"] > 0
    changed = (await world.hear(StorageChanged))[0]
    assert (changed.storage_name, changed.state) == ("main", "up")


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
