"""What an end-to-end test makes in the lab goes with the test, whatever becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from tests.e2e.site import Api, Lab, LogOn, pool_for_a_while, users_for_a_while

LAB = Lab({"ROOST_DEMO_POOL": "demo"})


class Site(httpx.BaseTransport):
    """Roost's HTTP, as far as it makes and forgets users and pools."""

    def __init__(self) -> None:
        self.there = {"users": {"admin"}, "pools": {"demo"}}
        self.refused: set[tuple[str, str]] = set()
        """What is answered with 503: method and the first word of the path."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        kind, *rest = request.url.path.removeprefix("/api/v1/").split("/")
        if (request.method, "/".join([kind, *rest[1:]])) in self.refused:
            return httpx.Response(503)
        if kind == "auth":
            return httpx.Response(200, json={"access_token": "x"})
        if request.method == "POST":
            self.there[kind].add(json.loads(request.content)["name"])
            return httpx.Response(201)
        if rest[0] not in self.there[kind]:
            return httpx.Response(404)
        if request.method == "DELETE":
            self.there[kind].remove(rest[0])
            return httpx.Response(204)
        return httpx.Response(200, json={"template": "small"})


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def admin(site: Site) -> Iterator[Api]:
    api = Api("http://lab", "admin", "secret", transport=site)
    yield api
    api.http.close()


def log_on(site: Site) -> LogOn:
    return lambda name, password: Api("http://lab", name, password, transport=site)


def test_users_go_when_the_test_is_over(site: Site, admin: Api) -> None:
    with users_for_a_while(admin, log_on(site)) as new_user:
        made = {new_user().user, new_user().user}
        assert site.there["users"] == {"admin", *made}
    assert site.there["users"] == {"admin"}


def test_users_go_when_the_test_fails(site: Site, admin: Api) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        users_for_a_while(admin, log_on(site)) as new_user,
    ):
        new_user()
        raise ZeroDivisionError
    assert site.there["users"] == {"admin"}


def test_a_user_who_cannot_log_on_goes_too(site: Site, admin: Api) -> None:
    site.refused = {("POST", "auth")}
    with (
        pytest.raises(AssertionError),
        users_for_a_while(admin, log_on(site)) as new_user,
    ):
        new_user()
    assert site.there["users"] == {"admin"}


def test_a_pool_goes_with_its_block(site: Site, admin: Api) -> None:
    with pool_for_a_while(LAB, admin, []) as name:
        assert name in site.there["pools"]
    assert site.there["pools"] == {"demo"}


def test_a_pool_that_cannot_be_opened_to_its_users_goes_too(site: Site, admin: Api) -> None:
    site.refused = {("PUT", "pools/entitlements")}
    with pytest.raises(AssertionError), pool_for_a_while(LAB, admin, []):
        pytest.fail("it was not opened to anybody")
    assert site.there["pools"] == {"demo"}
