"""Secrets at rest."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from roost_common.errors import Conflict, Unavailable
from roost_ha_monitor.sealed import Sealer


def _key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def test_what_is_sealed_comes_back_and_cannot_be_read_before() -> None:
    sealer = Sealer([_key()])
    sealed = sealer.seal(b"hunter2")
    assert b"hunter2" not in sealed
    assert sealer.unseal(sealed) == b"hunter2"
    assert sealer.seal(b"hunter2") != sealed


def test_a_new_key_in_front_still_opens_what_the_old_one_sealed(tmp_path: Path) -> None:
    old, new = _key(), _key()
    sealed = Sealer([old]).seal(b"hunter2")
    file = tmp_path / "keys"
    file.write_text(f"# the new one\n{new}\n{old}\n\n")
    both = Sealer.from_file(file)
    assert both.unseal(sealed) == b"hunter2"
    with pytest.raises(Unavailable, match=r"secrets\.unreadable"):
        Sealer([old]).unseal(both.seal(b"hunter2"))


def test_without_a_key_nothing_is_sealed() -> None:
    sealer = Sealer.from_file(None)
    with pytest.raises(Conflict, match=r"secrets\.no-key"):
        sealer.seal(b"hunter2")


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n# none yet\n")
    with pytest.raises(ValueError, match="holds no key"):
        Sealer.from_file(file)
    file.write_text("too short\n")
    with pytest.raises(ValueError):
        Sealer.from_file(file)
    with pytest.raises(OSError):
        Sealer.from_file(tmp_path / "nowhere")
