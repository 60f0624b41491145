"""``roost connect``: the viewer gets its file on standard input, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _my_desktops(site: Any, answers: Any) -> None:
    mine = [
        {"kind": "pool", "name": "office", "state": "available"},
        {"kind": "desktop", "name": "finance-1", "state": "available"},
    ]
    site.next("GET", "/api/v1/me/desktops", answers["json"](mine))
    site.next("POST", "/api/v1/launch", answers["viewer_file"]())


def test_the_viewer_reads_it_and_no_file_holds_the_password(
    cli: Any, site: Any, viewer: tuple[Path, Path], nothing_left: Any
) -> None:
    script, record = viewer
    done = cli("connect", "office", "--viewer", f"{script} --debug")
    assert (done.exit_code, done.err) == (0, "")
    arguments, _, text = record.read_text().partition("\n")
    assert arguments == "['--debug', '-']"
    assert text.startswith("[virt-viewer]\n")
    assert "password=s3cr3t\n" in text
    assert "s3cr3t" not in done.out
    assert nothing_left("s3cr3t") == [record]
    body = site.of("POST", "/api/v1/launch")[0].json
    assert body["pool"] == "office"
    assert body["protocols"] == ["spice"]
    assert body["client"]["name"]


def test_a_desktop_of_ones_own_and_the_only_thing_there_is(
    cli: Any, site: Any, viewer: tuple[Path, Path]
) -> None:
    cli("connect", "finance-1", "--viewer", str(viewer[0]))
    assert site.of("POST", "/api/v1/launch")[-1].json["desktop"] == "finance-1"
    cli("connect", "--viewer", str(viewer[0]))
    body = site.of("POST", "/api/v1/launch")[-1].json
    assert not {"pool", "desktop"} & body.keys()


def test_the_place_in_the_queue_is_shown(
    cli: Any, site: Any, answers: Any, viewer: tuple[Path, Path]
) -> None:
    site.next("POST", "/api/v1/launch", answers["queued"](2))
    site.next(
        "GET",
        "/api/v1/launch/l-1",
        answers["queued"](2),
        answers["queued"](1),
        answers["viewer_file"](),
    )
    done = cli("connect", "office", "--viewer", str(viewer[0]))
    assert done.exit_code == 0
    assert done.err.splitlines() == [
        "Waiting for a desktop, place 2 in the queue …",
        "Waiting for a desktop, place 1 in the queue …",
    ]


def test_saving_is_for_its_owner_alone(cli: Any, tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "office.vv"
    path.write_text("old and longer than what comes" * 50)
    path.chmod(0o644)
    done = cli("connect", "office", "--save", str(path), "-o", "json")
    assert done.json == {"saved": str(path)}
    assert mode(path) == 0o600
    assert path.read_text().endswith("fullscreen=0\n")
    refused = cli("connect", "office", "--save", str(tmp_path / "missing" / "x.vv"))
    assert refused.exit_code == 1
    assert "client.save-failed" in refused.err


def test_filling_the_screen(cli: Any, site: Any, tmp_path: Path) -> None:
    path = tmp_path / "office.vv"
    assert cli("connect", "office", "--save", str(path), "--fullscreen").exit_code == 0
    assert site.of("POST", "/api/v1/launch")[0].json["client"]["fullscreen"] is True


def test_the_client_tells_of_its_monitors_and_its_line(
    cli: Any, site: Any, viewer: tuple[Path, Path]
) -> None:
    said = ("--monitors", "2", "--link", "wan", "--viewer", str(viewer[0]))
    assert cli("connect", "office", *said).exit_code == 0
    client = site.of("POST", "/api/v1/launch")[-1].json["client"]
    # Whether two monitors are filled is left to the server.
    assert client == {"name": client["name"], "monitors": 2, "link": "wan"}
    assert cli("connect", "office", "--viewer", str(viewer[0])).exit_code == 0
    assert site.of("POST", "/api/v1/launch")[-1].json["client"].keys() == {"name"}
    for wrong in (("--monitors", "0"), ("--link", "fast")):
        assert cli("connect", "office", *wrong, "--viewer", str(viewer[0])).exit_code == 2
    assert len(site.of("POST", "/api/v1/launch")) == 2


def test_without_a_viewer_no_ticket_is_burnt(cli: Any, site: Any) -> None:
    done = cli("connect", "office", "--viewer", "no-such-viewer")
    assert done.exit_code == 1
    assert "client.no-viewer" in done.err
    assert site.asked == []


def test_a_viewer_that_fails_is_a_failure(cli: Any, viewer: tuple[Path, Path]) -> None:
    done = cli("connect", "office", "--viewer", f"{viewer[0]} --fail")
    assert done.exit_code == 1
    assert "client.viewer-failed" in done.err


def test_refusals_and_patience(
    cli: Any, site: Any, answers: Any, viewer: tuple[Path, Path]
) -> None:
    script = str(viewer[0])
    no = answers["problem"](403, "launch.not-entitled", "You may not open office.")
    site.next("POST", "/api/v1/launch", no)
    done = cli("connect", "office", "--viewer", script)
    assert (done.exit_code, done.err) == (
        1,
        "roost: You may not open office. (launch.not-entitled)\n",
    )
    site.next("POST", "/api/v1/launch", answers["queued"](5))
    site.next("GET", "/api/v1/launch/l-1", answers["queued"](5))
    done = cli("connect", "office", "--viewer", script, "--wait", "0.2")
    assert done.exit_code == 1
    assert "client.waited-too-long" in done.err
    assert not viewer[1].exists()
