"""Password hashes: Argon2id, checked a few at a time beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from roost_broker import metrics
from roost_common.errors import Unavailable

T = TypeVar("T")

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""OWASP's minimum for Argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane."""


class Passwords:
    """Makes and checks hashes; a storm of log-ons waits its turn instead of taking every core."""

    def __init__(self, *, concurrency: int, queue: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="argon2")
        self._turns = asyncio.Semaphore(concurrency)
        self._queue = queue
        self._waiting = 0
        # Checked where there is no such user, so that the answer takes as long as any other.
        self._nobody = _HASHER.hash("nobody")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place among those being checked.

        Raises `Unavailable` (``auth.busy``) when too many wait already.
        """
        if self._waiting >= self._queue:
            raise Unavailable("auth.busy", "Too many log on at once.", retry_after_s=2)
        self._waiting += 1
        metrics.LOGINS_WAITING.set(self._waiting)
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
            metrics.LOGINS_WAITING.set(self._waiting)
        try:
            yield
        finally:
            self._turns.release()

    async def hash(self, password: str) -> str:
        """A salted hash that carries its own parameters."""
        async with self.turn():
            return await self._run(lambda: _HASHER.hash(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one; as slow where ``stored`` is None. Needs a `turn`."""
        right = await self._run(lambda: _verify(stored or self._nobody, password))
        return right and stored is not None

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
