"""Where channels may lead, and what is never shown of it."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from roost_common.errors import Invalid
from roost_ha_monitor.notifications.model import Channel
from roost_ha_monitor.notifications.targets import TARGET, engine_id
from roost_ha_monitor.sealed import Sealer

MAIL = {
    "kind": "email",
    "host": "mail.example.org",
    "sender": "roost@example.org",
    "recipients": ["ops@example.org"],
}
HOOK = {"kind": "webhook", "url": "https://hooks.example.org/services/T0/s3cr3t-path"}
TRAP = {"kind": "snmp", "host": "nms.example.org", "user": "roost", "auth_key": "s3cr3t-auth"}
SEALER = Sealer([base64.b64encode(bytes(32)).decode()])


def lead(channel: Channel, **wanted: Any) -> Channel:
    channel.lead_to(TARGET.validate_python(wanted), SEALER)
    return channel


def secrets(channel: Channel) -> dict[str, str]:
    return channel.opened(SEALER).secrets()


@pytest.mark.parametrize(
    "wrong",
    [
        MAIL | {"username": "roost", "password": "s3cr3t", "security": "none"},
        MAIL | {"password": "s3cr3t"},
        MAIL | {"recipients": []},
        MAIL | {"recipients": ["ops@example.org\r\nBcc: x@example.org"]},
        MAIL | {"sender": "nobody"},
        MAIL | {"host": "mail.example.org evil"},
        MAIL | {"port": 0},
        MAIL | {"ca": "no certificate"},
        MAIL | {"unknown": 1},
        HOOK | {"url": "ftp://s3cr3t.example.org"},
        HOOK | {"url": "file:///s3cr3t"},
        HOOK | {"url": "https://user:s3cr3t@example.org"},
        HOOK | {"url": "https:///s3cr3t"},
        HOOK | {"secret": "s3cr3t"},
        TRAP | {"community": "s3cr3t"},
        TRAP | {"version": "2c"},
        TRAP | {"version": "1"},
        TRAP | {"auth_key": "s3cr3t"},
        TRAP | {"user": None},
    ],
)
def test_what_cannot_be_is_refused_without_repeating_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        TARGET.validate_python(wrong)
    messages = [error["msg"] for error in refused.value.errors()]
    assert "s3cr3t" not in str(messages)


@pytest.mark.parametrize("whole", [MAIL | {"username": "u", "password": "s3cr3t"}, HOOK, TRAP])
def test_nothing_that_is_stored_can_be_read(whole: dict[str, Any]) -> None:
    channel = lead(Channel(secrets=None), **whole)
    assert channel.secrets is not None
    assert b"s3cr3t" not in channel.secrets
    assert "s3cr3t" not in str(channel.target)
    assert "s3cr3t" in str(secrets(channel))
    assert "s3cr3t" not in repr(channel.opened(SEALER))


def test_without_secrets_no_key_is_needed() -> None:
    channel = Channel(secrets=None)
    channel.lead_to(TARGET.validate_python(MAIL), Sealer([]))
    assert channel.secrets is None
    assert channel.opened(Sealer([])) == TARGET.validate_python(MAIL)


@pytest.mark.parametrize(
    ("partial", "missing"),
    [
        (MAIL | {"username": "roost"}, "password"),
        ({key: TRAP[key] for key in ("kind", "host", "user")}, "auth_key"),
        ({"kind": "snmp", "host": "nms.example.org", "version": "2c"}, "community"),
    ],
)
def test_a_secret_that_is_needed_must_be_given(partial: dict[str, Any], missing: str) -> None:
    with pytest.raises(Invalid, match=missing):
        lead(Channel(secrets=None), **partial)


def test_a_secret_left_out_stays_and_null_removes_it() -> None:
    channel = lead(Channel(secrets=None), **HOOK, secret="s3cr3t-of-sixteen")
    lead(channel, **HOOK | {"url": "https://elsewhere.example.org/"})
    assert secrets(channel)["secret"] == "s3cr3t-of-sixteen"
    lead(channel, **HOOK, secret=None)
    assert "secret" not in secrets(channel)


def test_a_password_is_not_kept_for_another_server() -> None:
    whole = MAIL | {"username": "roost"}
    channel = lead(Channel(secrets=None), **whole, password="s3cr3t")
    lead(channel, **whole | {"recipients": ["boss@example.org"]})
    assert secrets(channel) == {"password": "s3cr3t"}
    for change in ({"host": "evil.example.org"}, {"port": 25}, {"security": "tls"}):
        with pytest.raises(Invalid, match="password"):
            lead(channel, **whole | change)
    assert secrets(channel) == {"password": "s3cr3t"}


def test_of_an_address_only_the_origin_is_shown() -> None:
    channel = lead(Channel(secrets=None), **HOOK)
    assert channel.target["url"] == "https://hooks.example.org/…"
    lead(channel, kind="webhook", url="http://[::1]:8080")
    assert channel.target["url"] == "http://[::1]:8080"


def test_an_engine_id_has_the_form_of_rfc_3411() -> None:
    made = engine_id(UUID(int=1))
    assert int.from_bytes(made[:4], "big") == 0x8000_0000 | 32473
    assert made[4] == 5
    assert 5 <= len(made) <= 32
