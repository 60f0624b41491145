"""What cannot be done is said, with a reason; when it can be again, the pool recovers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.site import ROOT, Api, Lab, NewPool, NewUser, eventually


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
            eventually(
                lambda: refusal(ann, pool) == (503, "placement.no-host"), 60, "told: no host"
            )
            for node in lab.nodes:
                admin.call("POST", f"/hosts/{node}/activate", 200, 202, 204)
            eventually(lambda: refusal(ann, pool)[0] in (200, 202), 90, "there are hosts again")
            assert ann.launch(pool)["state"] == "ready"
    finally:
        for node in lab.nodes:
            admin.call("POST", f"/hosts/{node}/activate", 200, 202, 204, 409)


def test_full_storage_is_told_and_recovered_from(
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
            eventually(
                lambda: refusal(ann, pool) == (503, "storage.unavailable"), 90, "told: storage"
            )
            hidden.rename(marker)
            eventually(lambda: refusal(ann, pool)[0] in (200, 202), 90, "storage is back")
            assert ann.launch(pool)["state"] == "ready"
    finally:
        if hidden.exists():
            hidden.rename(marker)


def test_a_full_pool_queues_or_says_it_is_exhausted(new_user: NewUser, new_pool: NewPool) -> None:
    ann, bob = new_user(), new_user()
    with new_pool([ann, bob], max=1) as pool:
        held = ann.launch(pool)
        assert refusal(bob, pool) == (503, "pool.exhausted")
        ann.log_off(held["session_id"])
        assert bob.launch(pool)["desktop"] == held["desktop"]
