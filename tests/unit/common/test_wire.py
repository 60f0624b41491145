"""What an agent answers, as far as it can be read."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage

from roost_common.bus.wire import STATUS, reply_of
from roost_common.contracts.display import Done
from roost_common.errors import Conflict, Unavailable


class Answer:
    def __init__(self, status: Any, body: bytes) -> None:
        self.headers = {STATUS: status}
        self.body = body


def read(status: Any, body: bytes) -> Done:
    return reply_of(cast(AbstractIncomingMessage, Answer(status, body)), Done)


def test_an_answer_and_a_refusal() -> None:
    assert read(200, b"{}") == Done()
    with pytest.raises(Conflict) as refused:
        read(409, b'{"code": "desktop.busy", "detail": "Not now."}')
    assert refused.value.code == "desktop.busy"


@pytest.mark.parametrize("status", [200, 400, "many", {}])
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"7", b"[" * 100_000, b'{"code": 1', b'{"secret": "x'],
)
def test_nonsense_is_no_answer_and_is_not_quoted(status: Any, body: bytes) -> None:
    with pytest.raises(Unavailable) as refused:
        read(status, body)
    assert refused.value.code == "host.answer-unreadable"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
