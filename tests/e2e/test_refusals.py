"""What cannot be done is said, with a reason; when it can be again, the pool recovers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.site import ROOT, Api, Lab, NewPool, NewUser, wait_until, word

from roost_lab.guest import IMAGE

SMALL_BYTES = 4 << 30
"""Several times what imaging keeps free (1 GiB); the file takes no space until it is written."""
LEFT_BYTES = 64 << 20
"""Far less than what imaging keeps free; the file system needs some for itself."""


def refusal(user: Api, pool: str, **body: Any) -> tuple[int, str]:
    """Status and code of a launch that is refused, or (202, state) while it waits."""
    answer = user.http.post("/api/v1/launch", json={"pool": pool, **body})
    found = answer.json()
    return answer.status_code, str(found.get("code") or found.get("state"))


def test_strangers_and_mistakes_change_nothing(
    lab: Lab, admin: Api, new_user: NewUser, new_pool: NewPool
) -> None:
    ann, eve = new_user(), new_user()
    with new_pool([ann]) as pool:
        before = admin.items("/sessions")
        assert refusal(ann, "no-such-pool") == (404, "pool.unknown")
        assert refusal(eve, pool) == (403, "pool.not-entitled")
        assert refusal(ann, pool, colour="red")[0] == 422
        body = {"content": b'{"pool": ', "headers": {"Content-Type": "application/json"}}
        assert ann.call("POST", "/launch", 400, **body).json()["code"] == "request.malformed"
        huge = ann.http.post("/api/v1/launch", json={"pool": "x" * (2 << 20)})
        assert huge.status_code == 413
        assert admin.items("/sessions") == before
        template = admin.get(f"/pools/{pool}")["template"]
        taken = {"name": pool, "kind": "automatic", "template": template, "min": 0, "max": 1}
        assert admin.call("POST", "/pools", 409, json=taken).json()["code"] == "pool.name-taken"
        giant = {**taken, "name": "giant", "spec": {"vcpus": 1, "memory_mib": 16 * 1024 * 1024}}
        refused = admin.call("POST", "/pools", 422, json=giant).json()
        assert refused["code"] == "placement.spec-beyond-hosts"
        assert ann.http.post("/api/v1/pools", json=giant).status_code == 403


def test_a_password_is_not_tried_for_ever(lab: Lab, new_user: NewUser) -> None:
    ann = new_user()
    codes = []
    for _ in range(12):
        form = {"username": ann.user, "password": "wrong"}
        codes.append(ann.http.post("/api/v1/auth/token", data=form).status_code)
    assert codes[0] == 401
    assert codes[-1] == 429
    assert set(codes) == {401, 429}


def test_a_pool_without_room_says_so_and_recovers(
    admin: Api, lab: Lab, new_user: NewUser, new_pool: NewPool
) -> None:
    ann = new_user()
    for node in lab.nodes:
        admin.call("POST", f"/hosts/{node}/maintenance", 200, 202, 204)
    try:
        with new_pool([ann]) as pool:
            wait_until(
                lambda: refusal(ann, pool) == (503, "placement.no-host"), "told: no host", 60
            )
            for node in lab.nodes:
                admin.call("POST", f"/hosts/{node}/activate", 200, 202, 204)
            wait_until(lambda: refusal(ann, pool)[0] in (200, 202), "there are hosts again", 90)
            assert ann.launch(pool)["state"] == "ready"
    finally:
        for node in lab.nodes:
            admin.call("POST", f"/hosts/{node}/activate", 200, 202, 204, 409)


def test_storage_that_is_away_is_told_and_recovered_from(
    admin: Api, lab: Lab, new_user: NewUser, new_pool: NewPool
) -> None:
    [storage] = admin.items("/storage")
    marker = ROOT / ".roost" / "storage" / storage["name"] / ".roost-storage"
    if not marker.exists():
        pytest.fail(f"the storage domain has no marker at {marker}")
    hidden = marker.with_name(".roost-storage.away")
    ann = new_user()
    marker.rename(hidden)  # as if the share were not mounted
    try:
        with new_pool([ann]) as pool:
            wait_until(
                lambda: refusal(ann, pool) == (503, "storage.unavailable"), "told: storage", 90
            )
            hidden.rename(marker)
            wait_until(lambda: refusal(ann, pool)[0] in (200, 202), "storage is back", 90)
            assert ann.launch(pool)["state"] == "ready"
    finally:
        if hidden.exists():
            hidden.rename(marker)


@contextmanager
def small_storage(admin: Api, lab: Lab, folder: Path) -> Iterator[tuple[str, Path]]:
    """A storage domain on a file system of its own that every node has mounted, as an NFS share
    would be: its name and its directory."""
    name = f"small-{word()}"
    image, root = folder / "small.img", ROOT / ".roost" / "storage" / name
    with ExitStack() as ending:

        def run(*command: str | Path) -> str:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        with image.open("wb") as file:
            file.truncate(SMALL_BYTES)
        run("mkfs.ext4", "-q", "-m", "0", image)
        device = run("losetup", "--find", "--show", image).strip()
        ending.callback(run, "losetup", "--detach", device)
        root.mkdir(parents=True)
        ending.callback(root.rmdir)
        run("mount", device, root)
        ending.callback(run, "umount", root)
        for node in lab.nodes:
            lab.on_node(node, "mount", device, str(root))
            ending.callback(lab.on_node, node, "umount", str(root))
        (root / "domain").mkdir()
        admin.call("POST", "/storage", 201, json={"name": name, "path": str(root / "domain")})
        ending.callback(admin.call, "DELETE", f"/storage/{name}", 204)
        yield name, root


@contextmanager
def template_on(admin: Api, storage: str) -> Iterator[str]:
    """The lab's guest as a template on a storage domain."""
    name = f"small-{word()}"
    body = {"name": name, "os": "linux", "storage": storage, "source": {"path": IMAGE}}
    admin.call("POST", "/templates", 202, json=body)
    wait_until(lambda: admin.get(f"/templates/{name}")["state"] == "ready", "imported", 120)
    try:
        yield name
    finally:
        admin.call("DELETE", f"/templates/{name}", 202, 204)
        path = f"/api/v1/templates/{name}"
        wait_until(lambda: admin.http.get(path).status_code == 404, "the template is gone", 60)


def test_full_storage_is_told_and_recovered_from(
    admin: Api, lab: Lab, new_user: NewUser, new_pool: NewPool, tmp_path: Path
) -> None:
    ann, bob = new_user(), new_user()
    with (
        small_storage(admin, lab, tmp_path) as (storage, root),
        template_on(admin, storage) as template,
        new_pool([ann, bob], template=template, spare=0) as pool,
    ):
        held = ann.launch(pool)
        filling = root / "somebody-elses"
        free = os.statvfs(root)
        with filling.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - LEFT_BYTES)
        wait_until(lambda: refusal(bob, pool) == (503, "storage.full"), "told: it is full", 90)
        wait_until(lambda: admin.get(f"/storage/{storage}")["state"] == "full", "shown", 60)
        assert ann.launch(pool)["desktop"] == held["desktop"], "what is there works"
        filling.unlink()
        wait_until(lambda: refusal(bob, pool)[0] in (200, 202), "there is room again", 90)
        assert bob.launch(pool)["state"] == "ready"
        for user in (ann, bob):
            [session] = [one for one in user.items("/sessions") if one["state"] != "ended"]
            user.log_off(str(session["id"]))


def test_a_full_pool_queues_or_says_it_is_exhausted(new_user: NewUser, new_pool: NewPool) -> None:
    ann, bob = new_user(), new_user()
    with new_pool([ann, bob], max=1) as pool:
        held = ann.launch(pool)
        assert refusal(bob, pool) == (503, "pool.exhausted")
        ann.log_off(held["session_id"])
        assert bob.launch(pool)["desktop"] == held["desktop"]
