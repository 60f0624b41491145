"""The one place in which tests wait: ask again and again, until it is so or a deadline has passed.

An answer counts when it is true: None, False, 0 and what is empty mean *not yet*. ``what`` says in
words what is waited for; a function of it is called only when it has not come, to say what is
there instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
What = str | Callable[[], str]

PAUSE_S = 0.02
"""At least, between an answer and the next question; more where one costs those who are asked."""
PATIENCE = 0.05
"""Of the time waited so far: a question costs the processor for which those who are asked wait."""


@overload
async def eventually(
    question: Callable[[], Awaitable[T | None]],
    what: What,
    within: float = ...,
    *,
    pause: float = ...,
) -> T: ...
@overload
async def eventually(
    question: Callable[[], T | None], what: What, within: float = ..., *, pause: float = ...
) -> T: ...
async def eventually(
    question: Callable[[], object], what: What, within: float = 20.0, *, pause: float = PAUSE_S
) -> object:
    """The first true answer, of a coroutine or a plain function; `AssertionError` when there is
    none after ``within`` seconds."""
    __tracebackhide__ = True
    began = time.monotonic()
    while True:
        answer = question()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(_pause(what, began, within, pause))


def wait_until(
    question: Callable[[], T | None],
    what: What,
    within: float = 20.0,
    *,
    pause: float = PAUSE_S,
) -> T:
    """`eventually` without an event loop."""
    __tracebackhide__ = True
    began = time.monotonic()
    while True:
        if answer := question():
            return answer
        time.sleep(_pause(what, began, within, pause))


def _pause(what: What, began: float, within: float, least: float) -> float:
    """Seconds until the next question; `AssertionError` where there is no time for one."""
    __tracebackhide__ = True
    waited = time.monotonic() - began
    if waited >= within:
        words = what if isinstance(what, str) else what()
        raise AssertionError(f"not within {within:g} s: {words}")
    return min(max(least, PATIENCE * waited), within - waited)
