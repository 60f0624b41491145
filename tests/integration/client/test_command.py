"""The command ``roost``: answers, errors, exit codes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

DESKTOP = {
    "id": "0001",
    "name": "office-1",
    "state": "running",
    "power": "on",
    "host": "kvm1",
    "pool": "office",
    "template": {"id": "9", "name": "win10", "version": 3},
    "users": ["alice"],
    "spec": {"vcpus": 2},
    "problem": None,
}
NOUNS = [
    "desktops",
    "hosts",
    "migrations",
    "pools",
    "templates",
    "sessions",
    "users",
    "groups",
    "storage",
    "jobs",
]


# --- logging in -------------------------------------------------------------------------------


def test_login_keeps_a_token_for_its_owner_alone_and_logout_forgets_it(
    cli: Any, site: Any, answers: Any, mode: Any, state_dir: Path
) -> None:
    site.next("GET", "/api/v1/auth/me", answers["json"]({"name": "alice", "roles": ["admin"]}))
    done = cli(
        "login", "--user", "alice", "--password-stdin", token=False, stdin=f"{site.password}\n"
    )
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == f"Logged in at {site.url} as alice.\n"
    path = state_dir / "roost" / "tokens.json"
    assert mode(path) == 0o600
    assert site.password not in path.read_text()

    # Neither address nor token need be said again.
    who = cli("whoami", "-o", "json", token=False, url=False)
    assert who.json == {"name": "alice", "roles": ["admin"]}

    assert cli("logout", token=False, url=False).exit_code == 0
    assert site.token not in path.read_text()
    after = cli("whoami", token=False)
    assert (after.exit_code, after.out) == (1, "")
    assert "client.not-logged-in" in after.err


def test_a_wrong_password_is_one_line(cli: Any, state_dir: Path) -> None:
    done = cli("login", "--user", "alice", "--password-stdin", token=False, stdin="wrong\n")
    assert done.exit_code == 1
    assert done.err == "roost: The name or the password is wrong. (auth.wrong-password)\n"
    assert not (state_dir / "roost").exists()


def test_nobody_to_ask_is_wrong_usage(cli: Any) -> None:
    assert cli("login", "--user", "alice", token=False).exit_code == 2
    assert cli("login", "--password-stdin", token=False, stdin="x\n").exit_code == 2
    assert cli("login", "--user", "a", "--password-stdin", token=False, stdin="\n").exit_code == 2
    assert cli("whoami", token=False, url=False).exit_code == 2


def test_no_option_takes_a_password(cli: Any) -> None:
    for command in (["login"], ["users", "create"], ["users", "set-password"]):
        said = cli(*command, "--help").out
        assert "--password-stdin" in said
        assert cli(*command, "--password", "x", "bob").exit_code == 2


def test_an_expired_login_says_so(cli: Any, site: Any, state_dir: Path) -> None:
    path = state_dir / "roost" / "tokens.json"
    path.parent.mkdir(parents=True)
    old = {"url": site.url, "user": "a", "token": "t", "expires_at": time.time() - 1, "ca": None}
    path.write_text(json.dumps([old]))
    done = cli("desktops", token=False)
    assert done.exit_code == 1
    assert "client.login-expired" in done.err
    assert site.asked == []


def test_a_token_that_is_refused_says_what_to_do(cli: Any, site: Any) -> None:
    site.token = "another"
    done = cli("desktops", token=False)
    assert "client.not-logged-in" in done.err
    import os

    os.environ["ROOST_TOKEN"] = "stale"
    try:
        done = cli("desktops", token=False)
    finally:
        del os.environ["ROOST_TOKEN"]
    assert done.exit_code == 1
    assert "auth.token-invalid" in done.err
    assert "roost login" in done.err


def test_a_token_goes_only_to_the_address_that_gave_it(cli: Any, site: Any) -> None:
    cli("login", "--user", "alice", "--password-stdin", token=False, stdin=f"{site.password}\n")
    site.asked.clear()
    elsewhere = cli("--url", site.url.replace("127.0.0.1", "localhost"), "whoami", token=False)
    assert elsewhere.exit_code == 1
    assert site.asked == []


# --- nouns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_is_listed_and_shown_for_people_and_for_programs(
    cli: Any, site: Any, noun: str
) -> None:
    site.lists[noun] = [{"id": f"id-{n}", "name": f"thing-{n}"} for n in range(5)]
    listed = cli(noun, "list")
    assert listed.exit_code == 0
    rows = listed.out.splitlines()
    assert len(rows) == 6
    assert rows[0] == rows[0].upper()
    assert cli(noun).out == listed.out

    for arguments in (
        (noun, "list", "--output", "json"),
        ("--output", "json", noun),
        (noun, "-o", "json"),
    ):
        assert cli(*arguments).json == site.lists[noun]
    assert cli(noun, "list", "-o", "json", "--limit", "3").json == site.lists[noun][:3]

    shown = cli(noun, "show", "thing-2", "-o", "json")
    assert shown.json == {"id": "id-2", "name": "thing-2"}
    assert "thing-2" in cli(noun, "show", "thing-2").out

    missing = cli(noun, "show", "nothing", "-o", "json")
    assert (missing.exit_code, missing.out) == (1, "")
    assert missing.err == f"roost: There is no nothing. ({noun}.unknown)\n"


def test_a_desktop_in_a_table(cli: Any, site: Any) -> None:
    site.lists["desktops"] = [DESKTOP]
    head, row = cli("desktops").out.splitlines()
    assert head.split() == [
        "NAME",
        "STATE",
        "POWER",
        "HOST",
        "POOL",
        "TEMPLATE",
        "USERS",
        "PROBLEM",
    ]
    assert row.split() == ["office-1", "running", "on", "kvm1", "office", "win10", "alice", "-"]


def test_filters_go_to_the_server(cli: Any, site: Any) -> None:
    site.lists["desktops"] = [DESKTOP]
    cli("desktops", "list", "--where", "pool=office", "--where", "state=running")
    assert site.asked[-1].query | {"limit": ""} == {
        "pool": "office",
        "state": "running",
        "limit": "",
    }
    assert cli("desktops", "list", "--where", "office").exit_code == 2


@pytest.mark.parametrize(
    ("command", "method", "path"),
    [
        (("desktops", "start", "d"), "POST", "desktops/d/start"),
        (("desktops", "shutdown", "d"), "POST", "desktops/d/shutdown"),
        (("desktops", "poweroff", "d"), "POST", "desktops/d/poweroff"),
        (("desktops", "reboot", "d"), "POST", "desktops/d/reboot"),
        (("desktops", "reimage", "d"), "POST", "desktops/d/reimage"),
        (("desktops", "delete", "d"), "DELETE", "desktops/d"),
        (("hosts", "approve", "h"), "POST", "hosts/h/approve"),
        (("hosts", "maintenance", "h"), "POST", "hosts/h/maintenance"),
        (("hosts", "activate", "h"), "POST", "hosts/h/activate"),
        (("hosts", "delete", "h"), "DELETE", "hosts/h"),
        (("migrations", "cancel", "m"), "DELETE", "migrations/m"),
        (("desktops", "migrate", "d"), "POST", "desktops/d/migrate"),
        (("pools", "delete", "p"), "DELETE", "pools/p"),
        (("sessions", "disconnect", "s"), "POST", "sessions/s/disconnect"),
        (("templates", "delete", "t"), "DELETE", "templates/t"),
        (("sessions", "logoff", "s"), "DELETE", "sessions/s"),
        (("users", "delete", "u"), "DELETE", "users/u"),
        (("groups", "delete", "g"), "DELETE", "groups/g"),
        (("storage", "delete", "s"), "DELETE", "storage/s"),
        (("jobs", "cancel", "j"), "POST", "jobs/j/cancel"),
        (("ha", "alerts", "acknowledge", "a"), "POST", "ha/alerts/a/acknowledge"),
        (("ha", "hosts", "remove", "h"), "DELETE", "ha/hosts/h"),
    ],
)
def test_actions(
    cli: Any, site: Any, answers: Any, *, command: tuple[str, ...], method: str, path: str
) -> None:
    site.next(method, f"/api/v1/{path}", answers["json"]({"id": "x", "state": "changing"}, 202))
    done = cli(*command)
    assert (done.exit_code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert command[-1] in done.out
    assert cli(*command, "-o", "json").json == {"id": "x", "state": "changing"}
    assert len(site.of(method, f"/api/v1/{path}")) == 2

    refused = answers["problem"](409, "thing.busy", "Not now.")
    site.next(method, f"/api/v1/{path}", refused)
    done = cli(*command, "-o", "json")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: Not now. (thing.busy)\n"
    assert cli(*command[:-1]).exit_code == 2


def test_a_delete_without_an_answer_still_gives_a_document(cli: Any, site: Any) -> None:
    from starlette.responses import Response

    site.next("DELETE", "/api/v1/users/bob", Response(status_code=204))
    assert cli("users", "delete", "bob", "-o", "json").json == {"name": "bob"}


def test_what_is_not_said_is_the_servers_to_choose(cli: Any, site: Any, answers: Any) -> None:
    site.next("POST", "/api/v1/pools", answers["json"]({"name": "p"}, 201))
    assert cli("pools", "create", "p", "--template", "win10").exit_code == 0
    assert site.asked[-1].json == {"name": "p", "template": "win10"}
    cli(
        "pools", "create", "p", "--template", "t", "--kind", "manual", "--min", "0", "--max", "9",
        "--spare", "2", "--max-per-user", "1", "--vcpus", "4", "--memory-mib", "4096",
        "--monitors", "2",
    )  # fmt: skip
    assert site.asked[-1].json == {
        "name": "p",
        "template": "t",
        "kind": "manual",
        "min": 0,
        "max": 9,
        "spare": 2,
        "max_per_user": 1,
        "spec": {"vcpus": 4, "memory_mib": 4096, "monitors": 2},
    }
    assert cli("pools", "create", "p").exit_code == 2
    assert cli("pools", "create", "p", "--template", "t", "--max", "0").exit_code == 2

    site.next("PATCH", "/api/v1/pools/p", answers["json"]({"name": "p"}))
    assert cli("pools", "change", "p", "--max", "20").exit_code == 0
    assert site.asked[-1].json == {"max": 20}
    assert cli("pools", "change", "p", "--memory-mib", "4096").exit_code == 0
    assert site.asked[-1].json == {"spec": {"memory_mib": 4096}}
    cli(
        "pools", "change", "p", "--template", "t2", "--min", "1", "--max", "9", "--spare", "2",
        "--max-per-user", "3", "--vcpus", "2", "--memory-mib", "512", "--monitors", "4",
    )  # fmt: skip
    assert site.asked[-1].json == {
        "template": "t2",
        "min": 1,
        "max": 9,
        "spare": 2,
        "max_per_user": 3,
        "spec": {"vcpus": 2, "memory_mib": 512, "monitors": 4},
    }
    assert cli("pools", "change", "p").exit_code == 2
    assert cli("pools", "change", "p", "--monitors", "5").exit_code == 2

    site.next("DELETE", "/api/v1/pools/p", answers["json"]({}, 202))
    assert cli("pools", "delete", "p", "--force").exit_code == 0
    assert site.asked[-1].query == {"force": "true"}

    site.next("POST", "/api/v1/desktops", answers["json"]({"name": "d"}, 202))
    assert cli("desktops", "create", "d", "--template", "t", "--vcpus", "2").exit_code == 0
    assert site.asked[-1].json == {"name": "d", "template": "t", "spec": {"vcpus": 2}}
    site.next("POST", "/api/v1/storage", answers["json"]({"name": "s"}, 201))
    assert cli("storage", "create", "s", "--path", "/srv/roost").exit_code == 0
    assert site.asked[-1].json == {"name": "s", "path": "/srv/roost"}


def test_entitling_adds_unless_told_otherwise(cli: Any, site: Any, answers: Any) -> None:
    path = "/api/v1/pools/office/entitlements"
    site.next("GET", path, answers["json"]([{"user": "alice", "group": None}]))
    site.next("PUT", path, answers["json"]([]))
    assert cli("pools", "entitle", "office", "--group", "staff", "--user", "alice").exit_code == 0
    assert site.asked[-1].json == [{"user": "alice"}, {"group": "staff"}]
    only = cli("pools", "entitle", "office", "--only", "--user", "bob", "-o", "json")
    assert only.json == {"name": "office", "entitlements": [{"user": "bob"}]}
    assert site.asked[-1].json == [{"user": "bob"}]
    assert cli("pools", "entitle", "office").exit_code == 2
    assert cli("pools", "entitle", "office", "--only").exit_code == 0
    assert site.asked[-1].json == []


def test_users_and_their_passwords(cli: Any, site: Any, answers: Any) -> None:
    site.next("POST", "/api/v1/users", answers["json"]({"name": "bob"}, 201))
    made = cli("users", "create", "bob", "--admin", "--password-stdin", stdin="long enough\n")
    assert made.exit_code == 0
    assert "long enough" not in made.out + made.err
    assert site.asked[-1].json == {"name": "bob", "password": "long enough", "roles": ["admin"]}
    site.next("PATCH", "/api/v1/users/bob", answers["json"]({"name": "bob"}))
    assert cli("users", "set-password", "bob", "--password-stdin", stdin="another\n").exit_code == 0
    assert site.asked[-1].json == {"password": "another"}


def test_members_of_groups(cli: Any, site: Any, answers: Any) -> None:
    site.next("POST", "/api/v1/groups", answers["json"]({"name": "staff"}, 201))
    assert cli("groups", "create", "staff", "alice").exit_code == 0
    assert site.asked[-1].json == {"name": "staff", "members": ["alice"]}
    site.lists["groups"] = [{"name": "staff", "members": ["alice", "bob"]}]
    site.next("PATCH", "/api/v1/groups/staff", answers["json"]({"name": "staff"}))
    assert cli("groups", "add", "staff", "carol", "bob").exit_code == 0
    assert site.asked[-1].json == {"members": ["alice", "bob", "carol"]}
    assert cli("groups", "remove", "staff", "alice").exit_code == 0
    assert site.asked[-1].json == {"members": ["bob"]}


def test_importing_a_template_shows_how_far_it_is(cli: Any, site: Any, answers: Any) -> None:
    accepted = answers["json"]({"name": "t", "job_id": "7"}, 202, {"Location": "/api/v1/jobs/7"})
    site.next("POST", "/api/v1/templates", accepted)
    quick = cli("templates", "import", "t", "--from", "t.qcow2", "--os", "windows-10")
    assert "job 7" in quick.out
    assert site.asked[-1].json == {
        "name": "t",
        "os": "windows-10",
        "source": {"path": "t.qcow2"},
    }
    job = [{"state": "running", "percent": 40.4}, {"state": "done", "percent": 100}]
    site.next("GET", "/api/v1/jobs/7", *(answers["json"](state) for state in job))
    seen = cli("templates", "import", "t", "--from", "t.qcow2", "--wait", "-o", "json")
    assert seen.json == job[-1]
    assert seen.err.splitlines() == ["Importing t: 40 %", "Importing t: 100 %"]

    failed = {"state": "failed", "problem": {"code": "image.backing-file", "detail": "No."}}
    site.next("GET", "/api/v1/jobs/7", answers["json"](failed))
    done = cli("templates", "import", "t", "--from", "t.qcow2", "--wait")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: No. (image.backing-file)\n"

    site.next("POST", "/api/v1/templates/t/versions", accepted)
    assert cli("templates", "add-version", "t", "--from", "t2.qcow2").exit_code == 0
    assert site.asked[-1].json == {"source": {"path": "t2.qcow2"}}


def test_moving_a_desktop_shows_how_far_it_is(cli: Any, site: Any, answers: Any) -> None:
    begun = {"id": "7", "state": "queued", "to": "kvm2"}
    accepted = answers["json"](begun, 202, {"Location": "/api/v1/migrations/7"})
    site.next("POST", "/api/v1/desktops/d/migrate", accepted)
    assert cli("desktops", "migrate", "d", "--to", "kvm2").out == (
        "Desktop d is being moved to kvm2, migration 7.\n"
    )
    assert site.asked[-1].json == {"host": "kvm2"}
    work = [{"state": "running", "percent": 40.4}, {"state": "done", "percent": 100}]
    site.next("GET", "/api/v1/migrations/7", *(answers["json"](one) for one in work))
    seen = cli("desktops", "migrate", "d", "--wait")
    assert site.of("POST", "/api/v1/desktops/d/migrate")[-1].json == {}
    assert seen.out == "Desktop d runs on kvm2.\n"
    assert seen.err.splitlines() == ["Moving d to kvm2: 40 %", "Moving d to kvm2: 100 %"]

    stayed = {"state": "failed", "problem": {"code": "desktop.migration-failed", "detail": "No."}}
    site.next("GET", "/api/v1/migrations/7", answers["json"](stayed))
    done = cli("desktops", "migrate", "d", "--wait")
    assert (done.exit_code, done.err) == (1, "roost: No. (desktop.migration-failed)\n")


def test_high_availability(cli: Any, site: Any, answers: Any) -> None:
    site.lists["ha/hosts"] = [{"node": "kvm1", "health": "up", "libvirt": True}]
    site.lists["ha/alerts"] = [{"id": "a1", "alert": "host.down", "object": "kvm1"}]
    assert "kvm1" in cli("ha", "hosts").out
    assert cli("ha", "hosts", "list", "-o", "json").json == site.lists["ha/hosts"]
    assert "host.down" in cli("ha", "alerts").out
    site.next("GET", "/api/v1/ha/leader", answers["json"]({"holder": "x", "term": 4}))
    assert cli("ha", "leader", "-o", "json").json == {"holder": "x", "term": 4}


def test_wrong_usage(cli: Any) -> None:
    for arguments in (
        ["no-such-noun"],
        ["desktops", "fly", "d"],
        ["desktops", "--output", "yaml"],
        ["desktops", "list", "--limit", "0"],
    ):
        done = cli(*arguments)
        assert (done.exit_code, done.out) == (2, "")
        assert done.err


def test_nobody_there(cli: Any) -> None:
    done = cli("--url", "http://127.0.0.1:9", "desktops", "-o", "json")
    assert (done.exit_code, done.out) == (1, "")
    assert "client.unreachable" in done.err
    assert len(done.err.splitlines()) == 1
