"""The bus ends when it is told to, whatever the library makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost_common.bus import Bus


async def test_a_cancellation_that_is_lost_on_its_way_ends_it_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` of Python 3.11 answers with the outcome that came at the same time."""
    connecting = asyncio.Event()

    async def connect(*_: Any, **__: Any) -> None:
        connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionRefusedError from None

    monkeypatch.setattr("aio_pika.connect", connect)
    task = asyncio.create_task(Bus("amqp://nobody:x@127.0.0.1:1/", "test").run())
    await connecting.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    task.cancel()
    assert done
    assert task.cancelled()
