"""Waking several loops at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roost_common.loops import Loop

Wake = Callable[[], None]
"""Something that makes loops not wait for their next turn."""


class Wakers:
    """The loops that one event concerns; they are made after those who wake them."""

    def __init__(self) -> None:
        self._loops: list[Loop] = []

    def set(self, loops: Sequence[Loop]) -> None:
        """From now on these are woken."""
        self._loops = list(loops)

    def __call__(self) -> None:
        for loop in self._loops:
            loop.wake()
