"""``roost ha``: incidents, fencing, arming, channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from roost_client import Roost
from roost_client._client import ASKS_OTHERS_S
from roost_client.cli.fencing import SECRET
from roost_ha_monitor.fencing.metadata import is_secret

pytestmark = pytest.mark.integration

HA = "/api/v1/ha"
INCIDENT = {
    "id": "7d8f0a52-3b5c-4b8e-9c53-0d1c7a2f4e10",
    "node": "kvm1",
    "state": "awaiting-confirmation",
    "detail": "It could not be switched off through fence_ipmilan; it is tried again",
    "noticed_at": "2026-01-05T08:00:03Z",
    "fenced_by": None,
    "fenced_at": None,
    "all_back_at": None,
    "resolution": None,
}
ATTEMPT = {
    "agent": "fence_ipmilan",
    "started_at": "2026-01-05T08:00:08Z",
    "ended_at": "2026-01-05T08:00:48Z",
    "fenced": False,
    "outcome": "it could not log in",
}
LOST = {
    "id": "0001",
    "name": "office-1",
    "priority": 70,
    "fate": "given-up",
    "reason": "its disk is locked",
    "settled_at": None,
}
INCIDENT_PATH = f"{HA}/incidents/{INCIDENT['id']}"
CONFIRM = f"{INCIDENT_PATH}/confirm"
FENCING = f"{HA}/fencing/kvm1"
DEVICE = {
    "agent": "fence_ipmilan",
    "options": {"ip": "10.0.0.7", "password": None},
    "changed_at": "2026-01-05T08:00:03Z",
    "changed_by": "root",
    "checked_at": None,
    "problem": "broken",
}
ALERT = {
    "id": "11111111-2222-3333-4444-555555555556",
    "alert": "host.down",
    "object": "kvm1",
    "severity": "alert",
    "message": "Host kvm1 is down.",
    "raised_at": "2026-01-02T03:04:05Z",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "cleared_at": None,
}
CHANNEL = {
    "id": "11111111-2222-3333-4444-555555555555",
    "name": "night shift",
    "kind": "email",
    "min_severity": "error",
    "alerts": ["host.*", "incident.*"],
    "repeat_after_s": 600,
    "target": {"host": "mail.example"},
    "secrets": ["password"],
    "snmp_engine_id": None,
}
CHANNEL_PATH = f"{HA}/channels/night shift"


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# --- incidents --------------------------------------------------------------------------------


def test_incidents_are_listed(cli: Any, site: Any) -> None:
    site.lists["ha/incidents"] = [INCIDENT]
    done = cli("ha", "incidents", "--where", "open=true")
    assert site.asked[-1].query["open"] == "true"
    head, row = done.out.splitlines()
    assert head.split()[:3] == ["ID", "NODE", "STATE"]
    assert row.split()[:3] == [INCIDENT["id"], "kvm1", "awaiting-confirmation"]
    assert row.rstrip().endswith("it is tried again")
    assert cli("ha", "incidents", "list", "-o", "json").json == [INCIDENT]


def test_an_incident_is_shown_with_its_attempts_and_desktops(
    cli: Any, site: Any, answers: Any
) -> None:
    whole = INCIDENT | {"attempts": [ATTEMPT], "desktops": [LOST], "alerts": [ALERT]}
    site.next("GET", INCIDENT_PATH, answers["json"](whole))
    shown = cli("ha", "incidents", "show", INCIDENT["id"])
    assert (shown.exit_code, shown.err) == (0, "")
    fields, attempts, desktops, alerts = shown.out.split("\n\n")
    assert ["node", "kvm1"] in _rows(fields)
    assert "fence_ipmilan;" in fields
    assert "attempts" not in fields
    title, head, row = attempts.splitlines()
    assert (title, head.split()) == (
        "attempts",
        ["AGENT", "STARTED", "ENDED", "FENCED", "OUTCOME"],
    )
    assert row.startswith("fence_ipmilan ")
    assert row.rstrip().endswith(" no      it could not log in")
    title, head, row = desktops.splitlines()
    assert (title, head.split()) == (
        "desktops",
        ["NAME", "PRIORITY", "FATE", "SETTLED", "REASON"],
    )
    assert row.split() == ["office-1", "70", "given-up", "-", "its", "disk", "is", "locked"]
    title, head, row = alerts.splitlines()
    assert (title, head.split()) == (
        "alerts",
        ["ALERT", "RAISED", "CLEARED", "ACKNOWLEDGED", "BY"],
    )
    assert row.startswith("host.down ")
    assert cli("ha", "incidents", "show", INCIDENT["id"], "-o", "json").json == whole

    nothing: dict[str, Any] = {"attempts": [], "desktops": [], "alerts": []}
    site.next("GET", INCIDENT_PATH, answers["json"](whole | nothing))
    rows = _rows(cli("ha", "incidents", "show", INCIDENT["id"]).out)
    assert rows[-3:] == [["attempts", "-"], ["desktops", "-"], ["alerts", "-"]]


def test_confirming_without_a_terminal_takes_a_yes(cli: Any, site: Any, answers: Any) -> None:
    site.next("GET", INCIDENT_PATH, answers["json"](INCIDENT))
    site.next("POST", CONFIRM, answers["json"](INCIDENT | {"state": "recovering"}))
    done = cli("ha", "incidents", "confirm", INCIDENT["id"], stdin="y\n")
    assert (done.exit_code, done.out) == (2, "")
    assert "--yes" in done.err
    assert site.asked == []

    done = cli("ha", "incidents", "confirm", INCIDENT["id"], "--yes")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == "Host kvm1 is confirmed to be off; its desktops are restarted.\n"
    assert [(one.method, one.path, one.body) for one in site.asked] == [("POST", CONFIRM, b"")]
    said = cli("ha", "incidents", "confirm", INCIDENT["id"], "--yes", "-o", "json").json
    assert said["state"] == "recovering"

    site.next("POST", CONFIRM, answers["problem"](409, "host.beats", "kvm1 beats: it is not off."))
    done = cli("ha", "incidents", "confirm", INCIDENT["id"], "--yes")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: kvm1 beats: it is not off. (host.beats)\n"


@pytest.mark.parametrize(("typed", "exit_code"), [("y", 0), ("n", 1), ("", 1)])
def test_who_confirms_is_told_what_that_means(
    at_terminal: Any, site: Any, answers: Any, typed: str, exit_code: int
) -> None:
    site.next("GET", INCIDENT_PATH, answers["json"](INCIDENT))
    site.next("POST", CONFIRM, answers["json"](INCIDENT))
    prompt = "Have you seen that kvm1 is off? [y/N]:"
    done = at_terminal("ha", "incidents", "confirm", INCIDENT["id"], answers=[(prompt, typed)])
    assert done.exit_code == exit_code
    assert done.err.startswith("Host kvm1 must be off. One that still runs destroys the disks")
    assert done.echo == f"{typed}\r\n"
    assert len(site.of("POST", CONFIRM)) == (typed == "y")
    assert ("Host kvm1 is confirmed" in done.out) == (typed == "y")


def test_an_incident_that_is_not_there_is_not_asked_about(
    at_terminal: Any, site: Any, answers: Any
) -> None:
    unknown = answers["problem"](404, "incident.unknown", "There is no incident.")
    site.next("GET", INCIDENT_PATH, unknown)
    done = at_terminal("ha", "incidents", "confirm", INCIDENT["id"], answers=[])
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: There is no incident. (incident.unknown)\n"


# --- fencing ----------------------------------------------------------------------------------


def test_fence_devices_are_shown_without_secrets(cli: Any, site: Any, answers: Any) -> None:
    fencing = {"node": "kvm1", "devices": [DEVICE]}
    site.next("GET", FENCING, answers["json"](fencing))
    rows = _rows(cli("ha", "fencing", "show", "kvm1").out)
    assert rows == [
        ["node", "kvm1"],
        [],
        ["devices"],
        ["AGENT", "OPTIONS", "CHECKED", "PROBLEM"],
        ["fence_ipmilan", "ip=10.0.0.7,", "password=(secret)", "-", "broken"],
    ]
    assert cli("ha", "fencing", "show", "kvm1", "-o", "json").json == fencing
    site.next("GET", FENCING, answers["json"]({"node": "kvm1", "devices": []}))
    assert _rows(cli("ha", "fencing", "show", "kvm1").out)[-1] == ["devices", "-"]


def _set_up(site: Any, *agents: str) -> None:
    devices = [DEVICE | {"agent": agent} for agent in agents]
    site.next("PUT", FENCING, JSONResponse({"node": "kvm1", "devices": devices}))


def test_a_device_is_set_up_with_secrets_from_standard_input(cli: Any, site: Any) -> None:
    _set_up(site, "fence_ipmilan")
    done = cli(
        "ha", "fencing", "set", "kvm1", "fence_ipmilan",
        "-s", "ip=10.0.0.7", "-s", "filter=a=b", "--ask", "password", "--ask", "snmp_community",
        stdin=" s3cret= \nother\n",
    )  # fmt: skip
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == "Host kvm1 is fenced by fence_ipmilan.\n"
    options = {
        "ip": "10.0.0.7",
        "filter": "a=b",
        "password": " s3cret= ",
        "snmp_community": "other",
    }
    assert site.asked[-1].json == [{"agent": "fence_ipmilan", "options": options}]

    bare = cli("ha", "fencing", "set", "kvm1", "fence_plug", "-o", "json")
    assert bare.json["node"] == "kvm1"
    assert site.asked[-1].json == [{"agent": "fence_plug", "options": {}}]


def test_a_secret_is_asked_for_and_not_seen(at_terminal: Any, site: Any) -> None:
    _set_up(site, "fence_ipmilan")
    done = at_terminal(
        "ha", "fencing", "set", "kvm1", "fence_ipmilan", "--ask", "password", "--ask", "token",
        answers=[("password: ", "s3cret"), ("token: ", "gold")],
    )  # fmt: skip
    assert done.exit_code == 0
    assert site.asked[-1].json[0]["options"] == {"password": "s3cret", "token": "gold"}
    for secret in ("s3cret", "gold"):
        assert secret not in done.echo + done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([], "", "AGENT or --from"),
        (["fence_x", "-s", "s3cret"], "", "-s takes name=value"),
        (["fence_x", "-s", "=s3cret"], "", "-s takes name=value"),
        (["fence_x", "-s", "passwd=s3cret"], "", "--ask passwd"),
        (["fence_x", "-s", "ip=a", "-s", "ip=b"], "", "ip is given twice"),
        (["fence_x", "--ask", "pin", "--ask", "pin"], "s3cret\ns3cret\n", "pin is given twice"),
        (["fence_x", "--ask", "password", "--ask", "pin"], "s3cret\n", "pin is empty"),
        (["fence_x", "--from", "-"], "[]", "no AGENT"),
        (["--from", "-", "-s", "ip=a"], "[]", "no AGENT"),
        (["--from", "-", "--ask", "pin"], "[]", "no AGENT"),
        (["--from", "-"], '{"agent": "fence_x"}', "no list of devices"),
        (["--from", "-"], '[{"password": "s3cret"', "holds no JSON"),
        (["--from", "-"], "", "holds no JSON"),
        (["--from", "not-there.json"], "", "not-there.json"),
    ],
)
def test_what_cannot_be_a_device_is_wrong_usage(
    cli: Any, site: Any, arguments: list[str], stdin: str, said: str
) -> None:
    done = cli("ha", "fencing", "set", "kvm1", *arguments, stdin=stdin)
    assert (done.exit_code, done.out) == (2, "")
    assert said in " ".join(done.err.split())
    assert "s3cret" not in done.err
    assert site.asked == []


@pytest.mark.parametrize("from_file", [True, False])
def test_several_devices_come_from_a_file(
    cli: Any, site: Any, tmp_path: Path, *, from_file: bool
) -> None:
    _set_up(site, "fence_ipmilan", "fence_apc")
    devices = [{"agent": "fence_ipmilan", "options": {"password": "s3cret"}}, {"agent": "é"}]
    path = tmp_path / "devices.json"
    path.write_text(json.dumps(devices, ensure_ascii=False), encoding="utf-8")
    source = str(path) if from_file else "-"
    done = cli("ha", "fencing", "set", "kvm1", "--from", source, stdin=path.read_text("utf-8"))
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == "Host kvm1 is fenced by fence_ipmilan, then fence_apc.\n"
    assert site.asked[-1].json == devices


def test_the_names_of_secrets_are_the_servers() -> None:
    secret = ("password", "Passwd", "snmp_priv_passwd", "community", "secret_key", "token", "pin")
    plain = ("ip", "ipaddr", "plug", "port", "username", "login", "lanplus", "ssl_insecure", "ping")
    for name in secret + plain:
        assert bool(SECRET.search(name)) == is_secret(name), name


def test_devices_are_removed_and_tested(cli: Any, site: Any, answers: Any) -> None:
    site.next("DELETE", FENCING, Response(status_code=204))
    assert cli("ha", "fencing", "remove", "kvm1").out == "Host kvm1 has no fence device.\n"
    assert cli("ha", "fencing", "remove", "kvm1", "-o", "json").json == {
        "node": "kvm1",
        "devices": [],
    }
    assert len(site.of("DELETE", FENCING)) == 2

    good = {"agent": "fence_ipmilan", "power": "on", "problem": ""}
    bad = {"agent": "fence_apc", "power": None, "problem": "broken"}
    site.next("POST", f"{FENCING}/test", answers["json"]([good]))
    done = cli("ha", "fencing", "test", "kvm1")
    assert (done.exit_code, done.err) == (0, "")
    assert _rows(done.out) == [["AGENT", "POWER", "PROBLEM"], ["fence_ipmilan", "on", "-"]]

    site.next("POST", f"{FENCING}/test", answers["json"]([good, bad]))
    done = cli("ha", "fencing", "test", "kvm1")
    assert (done.exit_code, done.err) == (1, "")
    assert _rows(done.out)[-1] == ["fence_apc", "-", "broken"]
    assert cli("ha", "fencing", "test", "kvm1", "-o", "json").json == [good, bad]

    site.next("POST", f"{FENCING}/test", answers["json"]({"odd": True}))
    assert "client.answer-odd" in cli("ha", "fencing", "test", "kvm1").err


def test_fencing_without_a_terminal_takes_a_yes(cli: Any, site: Any, answers: Any) -> None:
    site.next("POST", f"{FENCING}/fence", answers["json"](INCIDENT))
    done = cli("ha", "fencing", "fence", "kvm1", stdin="y\n")
    assert (done.exit_code, done.out) == (2, "")
    assert "--yes" in done.err
    assert site.asked == []
    done = cli("ha", "fencing", "fence", "kvm1", "--yes")
    assert done.out == f"Host kvm1 is being fenced, incident {INCIDENT['id']}.\n"
    assert cli("ha", "fencing", "fence", "kvm1", "--yes", "-o", "json").json == INCIDENT


@pytest.mark.parametrize(("typed", "exit_code"), [("y", 0), ("n", 1)])
def test_who_fences_is_told_what_that_means(
    at_terminal: Any, site: Any, answers: Any, typed: str, exit_code: int
) -> None:
    site.next("POST", f"{FENCING}/fence", answers["json"](INCIDENT))
    prompt = "Switch kvm1 off? [y/N]:"
    done = at_terminal("ha", "fencing", "fence", "kvm1", answers=[(prompt, typed)])
    assert done.exit_code == exit_code
    assert done.err.startswith("Host kvm1 is switched off at once")
    assert len(site.asked) == (typed == "y")


@pytest.mark.parametrize(
    ("command", "method", "path"),
    [
        (("show", "kvm1"), "GET", FENCING),
        (("set", "kvm1", "fence_x"), "PUT", FENCING),
        (("remove", "kvm1"), "DELETE", FENCING),
        (("test", "kvm1"), "POST", f"{FENCING}/test"),
        (("fence", "kvm1", "--yes"), "POST", f"{FENCING}/fence"),
    ],
)
def test_refusals_about_fencing(
    cli: Any, site: Any, answers: Any, *, command: tuple[str, ...], method: str, path: str
) -> None:
    refused = answers["problem"](409, "fencing.device-failed", "fence_x does not work.")
    site.next(method, path, refused)
    done = cli("ha", "fencing", *command)
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: fence_x does not work. (fencing.device-failed)\n"
    assert cli("ha", "fencing", command[0]).exit_code == 2


# --- arming -----------------------------------------------------------------------------------


def test_arming(cli: Any, site: Any, answers: Any) -> None:
    site.next("POST", f"{HA}/disarm", answers["json"]({"armed": False}))
    site.next("POST", f"{HA}/arm", answers["json"]({"armed": True}))
    assert cli("ha", "disarm").exit_code == 2
    assert site.asked == []
    done = cli("ha", "disarm", "--reason", "a new switch")
    assert (done.exit_code, done.err) == (0, "")
    assert "no host is fenced" in done.out
    assert site.asked[-1].json == {"reason": "a new switch"}
    assert cli("ha", "arm").out == "High availability is armed.\n"
    assert cli("ha", "arm", "-o", "json").json == {"armed": True}
    assert cli("ha", "disarm", "--reason", "x", "-o", "json").json == {"armed": False}

    for command in (["arm"], ["disarm", "--reason", "x"]):
        site.next("POST", f"{HA}/{command[0]}", answers["problem"](403, "auth.admin-only", "No."))
        done = cli("ha", *command)
        assert (done.exit_code, done.out, done.err) == (1, "", "roost: No. (auth.admin-only)\n")


# --- channels ---------------------------------------------------------------------------------


def test_channels_are_listed_and_found_by_name_or_id(cli: Any, site: Any, answers: Any) -> None:
    others = [CHANNEL | {"id": f"x{n}", "name": f"other {n}"} for n in range(3)]
    site.lists["ha/channels"] = [*others, CHANNEL]
    listed = cli("ha", "channels")
    assert "night shift  email  error          host.*, incident.*" in listed.out
    assert cli("ha", "channels", "list", "-o", "json").json == site.lists["ha/channels"]

    site.next("GET", CHANNEL_PATH, answers["json"](CHANNEL))
    assert cli("ha", "channels", "show", "night shift", "-o", "json").json == CHANNEL
    shown = cli("ha", "channels", "show", "night shift")
    assert ["target.host", "mail.example"] in _rows(shown.out)

    unknown = answers["problem"](404, "channel.unknown", "No channel day shift.")
    site.next("GET", f"{HA}/channels/day shift", unknown)
    done = cli("ha", "channels", "show", "day shift")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: No channel day shift. (channel.unknown)\n"


def test_a_channel_is_made_from_a_file_and_options(
    cli: Any, site: Any, answers: Any, tmp_path: Path
) -> None:
    site.next("POST", f"{HA}/channels", answers["json"](CHANNEL, 201))
    target = {"kind": "webhook", "url": "https://chat.example/s3cret"}
    described = {"name": "old", "min_severity": "normal", "repeat_after_s": 9, "target": target}
    path = tmp_path / "channel.json"
    path.write_text(json.dumps(described))
    done = cli("ha", "channels", "create", "chat", "--from", str(path))
    assert (done.exit_code, done.out, done.err) == (0, "Channel chat is made.\n", "")
    assert site.asked[-1].json == described | {"name": "chat"}
    assert "idempotency-key" in site.asked[-1].headers

    made = cli(
        "ha", "channels", "create", "chat", "--from", "-", "--min-severity", "error",
        "--alerts", "host.*", "--alerts", "incident.*", "--repeat-after", "0", "-o", "json",
        stdin=json.dumps(described),
    )  # fmt: skip
    assert made.json == CHANNEL
    assert site.asked[-1].json == {
        "name": "chat",
        "min_severity": "error",
        "alerts": ["host.*", "incident.*"],
        "repeat_after_s": 0,
        "target": target,
    }

    taken = answers["problem"](409, "channel.name-taken", "There is a channel chat.")
    site.next("POST", f"{HA}/channels", taken)
    done = cli("ha", "channels", "create", "chat", "--from", str(path))
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: There is a channel chat. (channel.name-taken)\n"


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        ([], ""),
        (["--from", "not-there.json"], ""),
        (["--from", "-"], "s3cret"),
        (["--from", "-"], '["s3cret"]'),
        (["--from", "-", "--repeat-after", "-1"], "{}"),
    ],
)
def test_what_cannot_be_a_channel_is_wrong_usage(
    cli: Any, site: Any, arguments: list[str], stdin: str
) -> None:
    done = cli("ha", "channels", "create", "chat", *arguments, stdin=stdin)
    assert (done.exit_code, done.out) == (2, "")
    assert "s3cret" not in done.err
    assert site.asked == []


def test_channels_are_tested_and_deleted(cli: Any, site: Any, answers: Any) -> None:
    site.lists["ha/channels"] = [CHANNEL]
    site.next("POST", f"{CHANNEL_PATH}/test", Response(status_code=204))
    site.next("DELETE", CHANNEL_PATH, Response(status_code=204))
    for verb, past in (("test", "was told a test"), ("delete", "is deleted")):
        done = cli("ha", "channels", verb, "night shift")
        assert (done.exit_code, done.out) == (0, f"Channel night shift {past}.\n")
    assert len(site.of("POST", f"{CHANNEL_PATH}/test")) == 1
    assert len(site.of("DELETE", CHANNEL_PATH)) == 1

    failed = answers["problem"](503, "channel.undelivered", "mail.example refused the sender.")
    site.next("POST", f"{CHANNEL_PATH}/test", failed)
    done = cli("ha", "channels", "test", "night shift")
    assert (done.exit_code, done.out) == (1, "")
    assert done.err == "roost: mail.example refused the sender. (channel.undelivered)\n"


def test_notifications_are_listed(cli: Any, site: Any) -> None:
    waiting = {"id": 7, "channel": "nms", "alert": "host.down", "last_error": "no route"}
    site.lists["ha/notifications"] = [waiting]
    head, row = cli("ha", "notifications", "--where", "state=waiting").out.splitlines()
    assert site.asked[-1].query["state"] == "waiting"
    assert head.split()[1] == "CHANNEL"
    assert row.split() == ["-", "nms", "-", "host.down", "-", "-", "-", "-", "no", "route"]
    assert cli("ha", "notifications", "list", "-o", "json").json == [waiting]
    # The server has no single ones.
    assert cli("ha", "notifications", "show", "7").exit_code == 2
    assert cli("ha", "alerts", "show", "7").exit_code == 2


# --- the library ------------------------------------------------------------------------------


def test_who_asks_others_is_given_time(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[tuple[str, str], float] = {}
    send = httpx.HTTPTransport.handle_request

    def record(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        given[request.method, request.url.path] = request.extensions["timeout"]["read"]
        return send(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", record)
    site.next("POST", f"{FENCING}/test", JSONResponse([]))
    site.next("PUT", FENCING, JSONResponse({"node": "kvm1"}))
    site.next("POST", f"{CHANNEL_PATH}/test", Response(status_code=204))
    site.next("POST", CONFIRM, JSONResponse(INCIDENT))
    with Roost(site.url, token=site.token, timeout_s=7.0) as roost:
        assert roost.fencing.ask("kvm1", "test") == []
        assert roost.fencing.put("kvm1", []) == {"node": "kvm1"}
        assert roost.channels.act("night shift", "test").item == {}
        assert roost.incidents.act(str(INCIDENT["id"]), "confirm").item == INCIDENT
    assert given == {
        ("POST", f"{FENCING}/test"): ASKS_OTHERS_S,
        ("PUT", FENCING): ASKS_OTHERS_S,
        ("POST", f"{CHANNEL_PATH}/test"): ASKS_OTHERS_S,
        ("POST", CONFIRM): 7.0,
    }
