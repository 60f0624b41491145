"""The token file."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from roost_client import RoostClientError
from roost_client.cli.credentials import Login, TokenFile, token_file


def login(url: str, token: str = "t", expires_in: float = 60.0) -> Login:
    return Login(url=url, user="alice", token=token, expires_at=time.time() + expires_in)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "state" / "roost" / "tokens.json")
    tokens.keep(login("https://a"))
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in tokens.path.parent.iterdir()] == ["tokens.json"]


def test_a_token_belongs_to_its_address_and_the_last_login_is_the_default(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    assert tokens.find(None) is None
    tokens.keep(login("https://a", "ta"))
    tokens.keep(login("https://b", "tb"))
    tokens.keep(login("https://a", "ta2"))
    found = tokens.find(None)
    assert found is not None
    assert (found.url, found.token) == ("https://a", "ta2")
    other = tokens.find("https://b")
    assert other is not None
    assert other.token == "tb"
    assert tokens.find("https://c") is None


def test_forgetting_one_leaves_the_others(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    tokens.keep(login("https://a"))
    tokens.keep(login("https://b"))
    assert tokens.forget("https://a")
    assert not tokens.forget("https://a")
    assert tokens.find("https://b") is not None


def test_a_broken_file_is_said_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("{")
    with pytest.raises(RoostClientError) as caught:
        TokenFile(path).keep(login("https://a"))
    assert caught.value.code == "client.token-file-unreadable"
    assert path.read_text() == "{"


def test_it_lies_where_the_xdg_specification_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert token_file() == tmp_path / "roost" / "tokens.json"
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("XDG_STATE_HOME", "relative/paths/are/ignored")
    assert token_file() == Path("/home/alice/.local/state/roost/tokens.json")


def test_a_token_expires() -> None:
    assert login("https://a", expires_in=-1).expired
    assert not login("https://a").expired
