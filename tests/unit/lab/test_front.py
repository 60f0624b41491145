"""nginx's configuration: checked by nginx itself, and read by eye for what matters."""

import re
from pathlib import Path
from typing import Any

import pytest

from roost_lab import front, site
from roost_lab.ca import Authority
from roost_lab.errors import LabError
from roost_lab.paths import Paths

UPSTREAMS = {
    "broker": ["127.0.0.1:8101", "127.0.0.1:8111"],
    "inventory": ["127.0.0.1:8102"],
    "imaging": ["127.0.0.1:8103"],
    "ha-monitor": ["127.0.0.1:8104"],
}


def render(directory: Path = Path("/srv/x"), **changes: Any) -> str:
    values: dict[str, Any] = {
        "directory": directory,
        "www": directory / "www",
        "certificate": directory / "front.pem",
        "key": directory / "front-key.pem",
        "http_port": 8080,
        "https_port": 8443,
        "upstreams": UPSTREAMS,
    }
    return front.render(**(values | changes))


def target(text: str, path: str) -> str | None:
    """The upstream that nginx takes for a path: the first regular expression that matches."""
    routes: list[tuple[str, str]] = re.findall(
        r"location ~ (\S+) \{\s+proxy_pass http://([\w-]+);", text
    )
    for pattern, name in routes:
        if re.search(pattern, path):
            return name
    return None


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/api/v1/auth/token", "broker"),
        ("/api/v1/launch", "broker"),
        ("/api/v1/launch/123", "broker"),
        ("/api/v1/pools/demo/entitlements", "broker"),
        ("/api/v1/me/desktops", "broker"),
        ("/api/v1/hosts", "inventory"),
        ("/api/v1/search/complete", "inventory"),
        ("/api/v1/stream", "inventory"),
        ("/api/v1/templates/x/versions", "imaging"),
        ("/api/v1/jobs/1", "imaging"),
        ("/api/v1/ha/hosts", "ha-monitor"),
        ("/api/v1/haha", None),
        ("/api/v1/poolside", None),
        ("/api/v1/", None),
        ("/metrics", None),
        ("/x/api/v1/pools", None),
    ],
)
def test_routes(path: str, service: str | None) -> None:
    assert target(render(), path) == service


def test_no_path_belongs_to_two_services() -> None:
    words = [word for group in front.ROUTES.values() for word in group]
    assert len(words) == len(set(words))


def test_all_copies_of_a_service_are_asked() -> None:
    text = render()
    block = text[text.index("upstream broker {") : text.index("upstream inventory {")]
    assert re.findall(r"server (\S+) ", block) == UPSTREAMS["broker"]


def test_another_copy_is_asked_only_where_the_first_did_not_answer() -> None:
    text = render()
    # With non_idempotent, a launch whose copy dies would be made twice; with http_503, a site that
    # is short of something would count as broken.
    assert re.findall(r"proxy_next_upstream (.*);", text) == ["error timeout"]
    assert re.findall(r"max_fails=(\d+) fail_timeout=(\d+)s", text) == [("1", "2")] * 5


def test_a_launch_that_waits_outlives_no_front() -> None:
    (read_s,) = re.findall(r"proxy_read_timeout (\d+)s;", render())
    (connect_s,) = re.findall(r"proxy_connect_timeout (\d+)s;", render())
    assert int(read_s) > 300
    assert int(connect_s) <= 2


def test_a_path_that_nginx_would_misread_is_refused() -> None:
    with pytest.raises(LabError, match="nginx"):
        render(directory=Path("/srv/$x"))


def test_its_program_is_started_with_what_was_prepared(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.make()
    one = front.Front(site.plan(paths, "10.77.0.0/24", 2, copies=2))
    one.prepare(Authority(paths.certs))
    program = one.program()
    configuration = Path(program.command[program.command.index("-c") + 1])
    text = configuration.read_text()
    assert target(text, "/api/v1/launch") == "broker"
    asked = re.findall(r"server (127\.0\.0\.1:\d+) ", text)
    assert asked[:4] == ["127.0.0.1:8101", "127.0.0.1:8111", "127.0.0.1:8102", "127.0.0.1:8112"]
    for certificate in re.findall(r'ssl_certificate(?:_key)? "?([^";]+)', text):
        assert Path(certificate).exists()
    assert program.stop_group, "its workers are to hear the signal too"
