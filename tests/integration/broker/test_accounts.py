"""Users, groups, log-on."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from roost_common.http import encode_cursor

pytestmark = pytest.mark.integration


async def login(site: Any, name: str, password: str) -> httpx.Response:
    answer: httpx.Response = await site.http.post(
        "/api/v1/auth/token", data={"username": name, "password": password}
    )
    return answer


async def test_the_first_administrator(site: Any) -> None:
    me = (await site.call("GET", "/auth/me")).json()
    assert (me["name"], me["roles"], me["groups"]) == ("admin", ["admin"], [])
    for change in ({"disabled": True}, {"roles": ["user"]}):
        answer = await site.call("PATCH", "/users/admin", json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "user.last-admin")
    answer = await site.call("DELETE", "/users/admin")
    assert (answer.status_code, answer.json()["code"]) == (409, "user.last-admin")
    await site.user("second", roles=["admin"])
    results = await asyncio.gather(
        site.call("DELETE", "/users/admin"), site.call("DELETE", "/users/second")
    )
    # Whoever deletes first, one of them is left.
    assert sorted(answer.status_code for answer in results)[0] == 204
    assert await site.sql("select count(*) from users where 'admin' = any(roles)") == 1


async def test_a_copy_that_starts_later_changes_nothing(site: Any, new_site: Any) -> None:
    await site.call("PATCH", "/users/admin", json={"password": "another password"})
    with pytest.raises(AssertionError):
        await new_site()  # logs on with the first password, which is no more
    assert (await login(site, "admin", "another password")).status_code == 200


async def test_a_token_and_what_it_says(site: Any) -> None:
    await site.user("Ann", full_name="Ann Other")
    await site.call("POST", "/groups", json={"name": "Sales", "members": ["ann"]})
    answer = await login(site, "ANN", "staple staple")
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    assert answer.headers["Cache-Control"] == "no-store"
    who = {"Authorization": f"Bearer {body['access_token']}"}
    me = (await site.call("GET", "/auth/me", headers=who)).json()
    assert me == {
        "id": me["id"],
        "name": "ann",
        "full_name": "Ann Other",
        "roles": ["user"],
        "groups": ["Sales"],
    }
    keys = (await site.http.get("/api/v1/auth/jwks")).json()["keys"]
    assert [key["kty"] for key in keys] == ["OKP"]
    assert "d" not in keys[0]  # RFC 8037: the private part
    answer = await site.call("GET", "/users", headers=who)
    assert (answer.status_code, answer.json()["code"]) == (403, "auth.admin-only")
    await site.call("PATCH", "/users/ann", json={"roles": ["admin"]})
    assert (await site.call("GET", "/users", headers=who)).status_code == 200


async def test_wrong_passwords_are_slowed_down(new_site: Any) -> None:
    site = await new_site(login_window_s=3600)
    await site.user("ann")
    for _ in range(5):
        answer = await login(site, "ann", "wrong wrong")
        assert (answer.status_code, answer.json()["code"]) == (401, "auth.wrong")
    answer = await login(site, "ann", "staple staple")
    assert (answer.status_code, answer.json()["code"]) == (429, "auth.too-many-failures")
    assert 600 < int(answer.headers["Retry-After"]) <= 721  # a fifth of the window
    copy = await new_site(login_window_s=3600)
    assert (await login(copy, "ann", "staple staple")).status_code == 429
    # A name that does not exist behaves the same; others are not disturbed.
    codes = [(await login(site, "nobody", "wrong wrong")).status_code for _ in range(6)]
    assert codes == [401] * 5 + [429]
    await site.user("bob")


async def test_a_right_password_forgets_the_wrong_ones(site: Any) -> None:
    await site.user("ann")
    for _ in range(3):
        for _ in range(4):
            assert (await login(site, "ann", "wrong wrong")).status_code == 401
        assert (await login(site, "ann", "staple staple")).status_code == 200


async def test_parallel_guesses_gain_little(new_site: Any) -> None:
    site = await new_site(login_window_s=3600)
    await site.user("ann")
    answers = await asyncio.gather(*(login(site, "ann", f"guess {n:04}") for n in range(30)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {401, 429}
    assert codes.count(401) <= 5 + site.settings.login_concurrency


async def test_a_storm_of_log_ons_waits_its_turn(site: Any) -> None:
    await site.user("ann")
    answers = await asyncio.gather(*(login(site, "ann", "staple staple") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}


async def test_too_many_at_once_are_told_so(new_site: Any) -> None:
    site = await new_site(login_queue=1, login_concurrency=1)
    answers = await asyncio.gather(*(login(site, "ann", "staple staple") for _ in range(8)))
    busy = [answer for answer in answers if answer.status_code == 503]
    assert busy
    assert {answer.json()["code"] for answer in busy} == {"auth.busy"}


async def test_basic_follows_password_and_disabling(ready_site: Any) -> None:
    site = ready_site

    async def launch(password: str) -> int:
        answer = await site.http.post(
            "/api/v1/launch", auth=httpx.BasicAuth("ann", password), json={"pool": "win"}
        )
        code: int = answer.status_code
        return code

    assert await launch("staple staple") == 200
    assert await launch("staple staple") == 200
    await site.call("PATCH", "/users/ann", json={"password": "newer newer"})
    assert await launch("staple staple") == 401
    assert await launch("newer newer") == 200
    await site.call("PATCH", "/users/ann", json={"disabled": True})
    assert await launch("newer newer") == 401


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !!!", "Basic YW5u", "Basic OnB3", "Bearer", "Bearer x.y.z", "Digest a", ""],
)
async def test_authorizations_that_say_nothing(site: Any, header: str) -> None:
    answer = await site.http.post("/api/v1/launch", headers={"Authorization": header})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "ann"}, 422),
        ({"password": "x"}, 422),
        ({"username": "ann", "password": "x" * 257}, 422),
        ({"username": "a" * 65, "password": "staple staple"}, 422),
        ({"username": "a\x00b", "password": "staple staple"}, 422),
        ({"username": "ann", "password": "y", "grant_type": "client_credentials"}, 422),
        ({"username": "ann", "password": ""}, 422),
    ],
)
async def test_bad_log_ons(site: Any, body: dict[str, str], status: int) -> None:
    answer = await site.http.post("/api/v1/auth/token", data=body)
    assert answer.status_code == status, answer.text
    assert "x" * 100 not in answer.text


async def test_users_are_listed_changed_deleted(ready_site: Any) -> None:
    site = ready_site
    page = (await site.call("GET", "/users?limit=2")).json()
    assert [item["name"] for item in page["items"]] == ["admin", "ann"]
    assert page["total"] == 3
    rest = (await site.call("GET", f"/users?limit=2&cursor={page['next']}")).json()
    assert ([item["name"] for item in rest["items"]], rest["next"]) == (["bob"], None)
    # Half a surrogate pair is JSON, and no text that could be asked for.
    for path in ("users", "groups", "pools"):
        answer = await site.call("GET", f"/{path}?cursor={encode_cursor(chr(0xD800))}")
        assert (answer.status_code, answer.json()["code"]) == (422, "request.value-refused")
    answer = await site.call("PATCH", "/users/ANN", json={"full_name": "Ann"})
    assert answer.json()["full_name"] == "Ann"
    assert "password" not in answer.text
    by_id = await site.call("GET", f"/users/{answer.json()['id']}")
    assert by_id.json() == answer.json()
    launched = (await site.launch(site.ann, pool="win")).json()
    assert (await site.call("DELETE", "/users/ann")).status_code == 204
    assert (await site.session(launched["session_id"]))["state"] == "ended"
    assert (await site.call("GET", "/users/ann")).status_code == 404
    assert (await site.call("GET", "/pools/win/entitlements")).json() == [{"user": "bob"}]
    assert (await login(site, "ann", "staple staple")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "password": "short"},
        {"name": "x", "password": "y" * 257},
        {"name": "", "password": "long enough"},
        {"name": "a b", "password": "long enough"},
        {"name": "x" * 65, "password": "long enough"},
        {"name": "-x", "password": "long enough"},
        {"name": "x", "password": "long enough", "roles": []},
        {"name": "x", "password": "long enough", "roles": ["root"]},
        {"name": "x", "password": "long enough", "color": "red"},
        {"name": "x"},
    ],
)
async def test_bad_users(site: Any, body: dict[str, Any]) -> None:
    answer = await site.call("POST", "/users", json=body)
    assert answer.status_code == 422, answer.text
    assert "y" * 100 not in answer.text
    assert await site.sql("select count(*) from users") == 1


async def test_names_are_taken_once(site: Any) -> None:
    bodies = [{"name": name, "password": "long enough"} for name in ("ann", "Ann", "ANN")]
    answers = await asyncio.gather(*(site.call("POST", "/users", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"user.name-taken"}


async def test_creating_again_with_a_key_makes_one(site: Any) -> None:
    headers = {**site.admin, "Idempotency-Key": "k"}
    body = {"name": "ann", "password": "long enough"}
    first = await site.call("POST", "/users", json=body, headers=headers)
    second = await site.call("POST", "/users", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()


async def test_groups(site: Any) -> None:
    await site.user("ann")
    await site.user("bob")
    made = await site.call("POST", "/groups", json={"name": "sales", "members": ["Ann", "ann"]})
    assert made.status_code == 201
    assert made.json()["members"] == ["ann"]
    answer = await site.call("POST", "/groups", json={"name": "sales"})
    assert (answer.status_code, answer.json()["code"]) == (409, "group.name-taken")
    answer = await site.call("PATCH", "/groups/sales", json={"members": ["ann", "eve"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "user.unknown")
    assert (await site.call("GET", "/groups/sales")).json()["members"] == ["ann"]
    answer = await site.call("PATCH", "/groups/sales", json={"members": ["bob"], "name": "s2"})
    assert (answer.json()["name"], answer.json()["members"]) == ("s2", ["bob"])
    assert (await site.call("GET", "/users/bob")).json()["groups"] == ["s2"]
    assert (await site.call("GET", "/groups")).json()["total"] == 1
    assert (await site.call("DELETE", "/groups/s2")).status_code == 204
    assert (await site.call("DELETE", "/groups/s2")).status_code == 404


async def test_everything_here_is_for_administrators(site: Any) -> None:
    ann = await site.user("ann")
    for method, path in (
        ("GET", "/users"),
        ("POST", "/users"),
        ("GET", "/users/admin"),
        ("PATCH", "/users/admin"),
        ("DELETE", "/users/admin"),
        ("GET", "/groups"),
        ("POST", "/groups"),
        ("GET", "/pools"),
        ("POST", "/pools"),
        ("GET", "/pools/x"),
        ("PATCH", "/pools/x"),
        ("DELETE", "/pools/x"),
        ("PUT", "/pools/x/entitlements"),
        ("GET", "/pools/x/entitlements"),
    ):
        body = [] if path.endswith("ments") else {"name": "x", "password": "long enough"}
        if "pools" in path and method == "POST":
            body = {"name": "x", "template": "t"}
        if method == "PATCH":
            body = {}
        answer = await site.call(method, path, headers=ann, json=body)
        assert answer.status_code == 403, (method, path, answer.text)
        assert (await site.call(method, path, headers={}, json=body)).status_code == 401
