"""The library against a real server."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from roost_client import (
    Conflict,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    NotUnderstood,
    Place,
    Refused,
    Roost,
    TooMany,
    Unavailable,
    Unreachable,
    WaitedTooLong,
    Wish,
    WorkFailed,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, NotAuthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (429, TooMany),
        (503, Unavailable),
        (418, Refused),
    ],
)
def test_problem_details_become_errors(
    site: Any, roost: Roost, answers: Any, status: int, kind: type[Refused]
) -> None:
    site.next(
        "GET",
        "/api/v1/desktops/x",
        answers["problem"](status, "some.code", "Some detail.", {"Retry-After": "7"}),
    )
    with pytest.raises(kind) as caught:
        roost.desktops.get("x")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.detail) == ("some.code", "Some detail.")
    assert (caught.value.status, caught.value.retry_after_s) == (status, 7.0)


def test_a_front_without_services_is_no_riddle(site: Any, roost: Roost, answers: Any) -> None:
    from starlette.responses import HTMLResponse

    site.next("GET", "/api/v1/desktops/x", HTMLResponse("<h1>502 Bad Gateway</h1>", 502))
    with pytest.raises(Unavailable) as caught:
        roost.desktops.get("x")
    assert caught.value.code == "http.502"


def test_an_answer_that_is_none_of_ours_is_said(site: Any, roost: Roost, answers: Any) -> None:
    site.next("GET", "/api/v1/desktops/x", answers["json"](["a", "list"]))
    with pytest.raises(NotUnderstood):
        roost.desktops.get("x")
    site.next("GET", "/api/v1/desktops", answers["json"]({"desktops": []}))
    with pytest.raises(NotUnderstood):
        list(roost.desktops.list())


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Roost(f"http://127.0.0.1:{port}") as roost, pytest.raises(Unreachable) as caught:
        roost.me()
    assert caught.value.code == "client.unreachable"
    with pytest.raises(Unreachable):
        Roost("https://localhost", ca="/nowhere/ca.pem")


def test_somebody_there_who_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Roost(url, timeout_s=0.2) as roost, pytest.raises(Unreachable) as caught:
            roost.me()
    assert caught.value.code == "client.timeout"


def test_a_list_is_followed_to_its_end_and_only_as_far_as_needed(site: Any, roost: Roost) -> None:
    site.lists["desktops"] = [{"id": str(n), "name": f"d{n}"} for n in range(5)]
    assert [item["name"] for item in roost.desktops.list()] == ["d0", "d1", "d2", "d3", "d4"]
    assert len(site.of("GET", "/api/v1/desktops")) == 3
    first = next(roost.desktops.list(state="running"))
    assert first["name"] == "d0"
    asked = site.of("GET", "/api/v1/desktops")
    assert len(asked) == 4
    assert asked[-1].query["state"] == "running"


def test_logging_in_gives_a_token_that_is_used(site: Any, answers: Any) -> None:
    site.next("GET", "/api/v1/auth/me", answers["json"]({"name": "alice"}))
    with Roost(site.url) as roost:
        with pytest.raises(NotAuthenticated) as caught:
            roost.log_in("alice", "wrong")
        assert caught.value.code == "auth.wrong-password"
        account = roost.log_in("alice", site.password)
        assert (account.token, account.expires_in_s) == (site.token, 3600.0)
        assert roost.me() == {"name": "alice"}


def test_names_are_quoted_in_paths(site: Any, roost: Roost) -> None:
    with pytest.raises(NotFound):
        roost.users.get("../pools/x y?z")
    assert site.asked[-1].path.startswith("/api/v1/users/")
    assert site.asked[-1].query == {}


def test_creating_carries_a_key_and_other_writes_are_what_they_say(
    site: Any, roost: Roost, answers: Any
) -> None:
    site.next("POST", "/api/v1/pools", answers["json"]({"id": "1", "name": "p"}, 201))
    assert roost.pools.create({"name": "p"}).item["id"] == "1"
    asked = site.of("POST", "/api/v1/pools")[0]
    assert asked.json == {"name": "p"}
    assert len(asked.headers["idempotency-key"]) >= 32

    site.next(
        "POST",
        "/api/v1/desktops/d/start",
        answers["json"]({"id": "d"}, 202, {"Location": "/api/v1/desktops/d"}),
    )
    done = roost.desktops.act("d", "start")
    assert (done.item, done.location) == ({"id": "d"}, "/api/v1/desktops/d")
    from starlette.responses import Response

    site.next("DELETE", "/api/v1/users/u", Response(status_code=204))
    assert roost.users.delete("u").item == {}


def test_a_create_whose_answer_was_lost_is_sent_again_with_its_key() -> None:
    """The server takes the request and hangs up; the second time it answers."""
    import threading

    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in (b"", b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"):
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        with Roost(f"http://127.0.0.1:{port}", token="t") as roost:
            roost.pools.create({"name": "p"})
        thread.join(10)
    keys = [
        line for data in seen for line in data.split(b"\r\n") if b"idempotency-key" in line.lower()
    ]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_launch_keeps_its_place_until_it_is_ready(site: Any, roost: Roost, answers: Any) -> None:
    site.next("POST", "/api/v1/launch", answers["queued"](3))
    site.next(
        "GET",
        "/api/v1/launch/l-1",
        answers["queued"](2),
        answers["queued"](1),
        answers["viewer_file"](),
    )
    places: list[Place] = []
    ticket = roost.launch(Wish(pool="office"), wait_s=30, on_place=places.append)
    assert "password=s3cr3t" in ticket.viewer_file
    assert [place.position for place in places] == [3, 2, 1]
    asked = site.of("POST", "/api/v1/launch")
    assert len(asked) == 1
    assert asked[0].json == {"pool": "office", "protocols": ["spice"]}
    assert asked[0].headers["prefer"] == "wait=10"
    assert "application/x-virt-viewer" in asked[0].headers["accept"]


def test_patience_ends(site: Any, roost: Roost, answers: Any) -> None:
    site.next("POST", "/api/v1/launch", answers["queued"](3))
    site.next("GET", "/api/v1/launch/l-1", answers["queued"](3))
    with pytest.raises(WaitedTooLong):
        roost.launch(Wish(), wait_s=0.2)
    assert site.of("POST", "/api/v1/launch")[0].json == {"protocols": ["spice"]}


def test_a_refused_launch_is_refused_at_once(site: Any, roost: Roost, answers: Any) -> None:
    refused = answers["problem"](503, "pool.exhausted", "All desktops are taken.")
    site.next("POST", "/api/v1/launch", refused)
    with pytest.raises(Unavailable) as caught:
        roost.launch(Wish(pool="office"))
    assert caught.value.code == "pool.exhausted"


def test_long_work_is_followed(site: Any, roost: Roost, answers: Any) -> None:
    states = [{"state": "queued", "percent": 0}, {"state": "done", "percent": 100}]
    site.next("GET", "/api/v1/jobs/7", *(answers["json"](state) for state in states))
    assert list(roost.follow("/api/v1/jobs/7", wait_s=10)) == states
    # Also where the server names itself.
    site.next("GET", "/api/v1/jobs/8", answers["json"]({"state": "done"}))
    assert len(list(roost.follow("http://inside:8103/api/v1/jobs/8", wait_s=10))) == 1

    failed = {"state": "failed", "problem": {"code": "image.hostile", "detail": "No."}}
    site.next("GET", "/api/v1/jobs/9", answers["json"](failed))
    with pytest.raises(WorkFailed) as caught:
        list(roost.follow("/api/v1/jobs/9", wait_s=10))
    assert caught.value.code == "image.hostile"
    site.next("GET", "/api/v1/jobs/10", answers["json"]({"state": "running"}))
    with pytest.raises(WaitedTooLong):
        list(roost.follow("/api/v1/jobs/10", wait_s=0.1))
