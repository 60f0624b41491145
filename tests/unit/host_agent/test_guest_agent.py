"""A guest may say whatever it likes; what is passed on of it is text of a sane size."""

from __future__ import annotations

import base64
import json
from typing import Any

import libvirt_qemu
import pytest

from roost_common.contracts.desktop import GuestInfo
from roost_common.errors import Unavailable
from roost_host_agent.hypervisor import guest_agent
from roost_host_agent.hypervisor.guest_agent import (
    ADDRESSES_MAX,
    APPLICATIONS_MAX,
    APPLICATIONS_MAX_BYTES,
    TEXT_MAX,
    USERS_MAX,
)


def everywhere(text: str) -> GuestInfo:
    """What becomes of a text in all the places where a guest can say it."""
    answers = {
        "os.pretty-name": text,
        "os.kernel-release": text,
        "hostname": text,
        "user.count": 1,
        "user.0.name": text,
        "if.count": 1,
        "if.0.addr.count": 1,
        "if.0.addr.0.addr": text,
    }
    return guest_agent.from_answers(answers, (text,))


def saying(text: str) -> GuestInfo:
    return GuestInfo(
        os=text,
        kernel=text,
        hostname=text,
        addresses=(text,),
        users=(text,),
        applications=(text,),
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("a\0b", "ab", id="NUL"),
        pytest.param("\x1b[2Ja\x07\x7f\x9b", "[2Ja", id="a terminal's controls"),
        pytest.param("bash\t5.2\r\nx", "bash 5.2  x", id="what parts words"),
        pytest.param("a\ud800b\udfff", "ab", id="lone surrogates"),
        pytest.param(" \0 a \0", "a", id="edges"),
        pytest.param("Büro 書く 🖥", "Büro 書く 🖥", id="any script"),
        pytest.param("x" * (TEXT_MAX + 1), "x" * TEXT_MAX, id="a long text"),
        pytest.param("x" * (TEXT_MAX - 1) + " y", "x" * (TEXT_MAX - 1), id="a cut at a space"),
    ],
)
def test_every_text_is_cleaned_and_cut(said: str, kept: str) -> None:
    found = everywhere(said)
    assert found == saying(kept)
    assert r"\u0000" not in found.model_dump_json()


def test_what_is_nothing_when_cleaned_is_not_said() -> None:
    assert everywhere("\0\t\ud800") == GuestInfo()


def test_an_address_is_judged_as_it_is_passed_on() -> None:
    assert everywhere("\x00127.0.0.1").addresses == ()


def test_lists_are_cut() -> None:
    answers: dict[str, Any] = {"user.count": 5000, "if.count": 2}
    answers |= {f"user.{number}.name": f"u{number:04}" for number in range(5000)}
    for index in range(2):
        answers[f"if.{index}.addr.count"] = 2500
        answers |= {
            f"if.{index}.addr.{number}.addr": f"2001:db8:{index}::{number:x}"
            for number in range(2500)
        }
    found = guest_agent.from_answers(answers, ("x",) * (APPLICATIONS_MAX + 1))
    assert found.users == tuple(f"u{number:04}" for number in range(USERS_MAX))
    assert len(found.addresses) == ADDRESSES_MAX
    assert len(found.applications) == APPLICATIONS_MAX


# --- the file of applications ---------------------------------------------------------------------


class Guest:
    """As much of a ``virDomain`` as is asked of its guest, with this answer to every command."""

    def __init__(self, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answer = answer
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", self._command)

    def agentSetResponseTimeout(self, *_: int) -> None:  # noqa: N802 - libvirt's names
        pass

    def guestInfo(self, *_: int) -> dict[str, Any]:  # noqa: N802
        return {"hostname": "desk-1"}

    def _command(self, *_: Any) -> str:
        return self._answer if isinstance(self._answer, str) else json.dumps(self._answer)


def file(content: bytes) -> dict[str, Any]:
    return {"return": {"buf-b64": base64.b64encode(content).decode()}}


@pytest.mark.parametrize(
    ("content", "applications"),
    [
        pytest.param(b"\n bash 5.2 \r\nvim\0 9\n", ("bash 5.2", "vim 9"), id="NUL"),
        pytest.param("bash 5.2\nvim 9\n".encode("utf-16-le"), ("bash 5.2", "vim 9"), id="UTF-16"),
        pytest.param(b"a\xed\xa0\x80b", ("a\ufffd\ufffd\ufffdb",), id="a surrogate"),
        pytest.param(b"x" * 1000 + b"\ny", ("x" * TEXT_MAX, "y"), id="a long line"),
        pytest.param(b"x\n" * 30_000, ("x",) * APPLICATIONS_MAX, id="many lines"),
        pytest.param(b"\n" * APPLICATIONS_MAX_BYTES + b"x", (), id="more than was asked for"),
    ],
)
def test_the_list_of_applications(
    content: bytes, applications: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = guest_agent.ask(Guest(file(content), monkeypatch))
    assert found == GuestInfo(hostname="desk-1", applications=applications)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([], id="a list"),
        pytest.param({"error": {}}, id="no return"),
        pytest.param({"return": 7}, id="no object"),
        pytest.param({"return": {"buf-b64": None}}, id="no text"),
        pytest.param({"return": {"buf-b64": "x"}}, id="no base64"),
        pytest.param("{", id="no JSON"),
        pytest.param("[" * 100_000, id="depth"),
    ],
)
def test_an_agent_that_answers_nonsense_only_loses_its_list(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guest_agent.ask(Guest(answer, monkeypatch)) == GuestInfo(hostname="desk-1")


def test_answers_that_are_no_text_are_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Garbled(Guest):
        def guestInfo(self, *_: int) -> dict[str, Any]:  # noqa: N802
            return {"hostname": b"\xed\xb0\x80".decode()}  # as libvirt's binding decodes it

    with pytest.raises(Unavailable) as refused:
        guest_agent.ask(Garbled({}, monkeypatch))
    assert refused.value.code == "host.guest-garbled"
