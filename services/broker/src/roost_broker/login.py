"""Log-on: name and password in, identity out; guessing is slowed down."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from roost_broker import metrics
from roost_broker.model import User
from roost_broker.passwords import Passwords
from roost_broker.repository.identities import Identities
from roost_broker.repository.login_failures import LoginFailures
from roost_broker.throttle import Limit
from roost_common import log
from roost_common.errors import TooMany, Unauthenticated
from roost_common.outbox import UnitOfWork
from roost_common.security import Identity

logger = log.get_logger(__name__)

REMEMBERED: Final = timedelta(seconds=60)
"""How long a checked password is not checked again by a client that sends it every time."""
REMEMBERED_MOST: Final = 10_000


@dataclass(frozen=True)
class Limits:
    """Wrong passwords allowed: for a name from one address, and for a name from everywhere."""

    address: Limit
    user: Limit


@dataclass(frozen=True)
class _Account:
    """What a log-on needs of a user, read in one transaction."""

    user: User
    groups: frozenset[str]
    failed_before: bool

    @property
    def identity(self) -> Identity:
        return self.user.identity(self.groups)


class Login:
    """Checks passwords. Failures are counted in the database, so that all copies share them."""

    def __init__(self, unit_of_work: UnitOfWork, passwords: Passwords, limits: Limits) -> None:
        self._unit = unit_of_work
        self._passwords = passwords
        self._limits = limits
        self._salt = secrets.token_bytes(32)
        self._checked: dict[bytes, tuple[str, datetime]] = {}

    async def authenticate(self, name: str, password: str, address: str) -> Identity:
        """Who that is.

        Raises `Unauthenticated` (``auth.wrong``) for a wrong name, password or a disabled user
        alike, `TooMany` (``auth.too-many-failures``) after too many of them.
        """
        name = name.strip().lower()
        by_address, by_name = f"a:{address}|{name}"[:160], f"u:{name}"[:160]
        keys = {by_address: self._limits.address, by_name: self._limits.user}
        account = await self._read(name, keys)
        if account is not None and self._remembers(account.user, name, password):
            return await self._welcome(account, by_address)
        async with self._passwords.turn():
            # Others may have failed while this one waited.
            account = await self._read(name, keys)
            stored = account.user.password_hash if account else None
            right = await self._passwords.matches(stored, password)
            if account is None or not right or account.user.disabled:
                await self._failed(keys)
                metrics.LOGINS.labels("wrong").inc()
                logger.info("login.wrong", user=name, address=address)
                raise Unauthenticated("auth.wrong", "The name or the password is wrong.")
        self._remember(account.user, name, password)
        return await self._welcome(account, by_address)

    async def _read(self, name: str, keys: dict[str, Limit]) -> _Account | None:
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            buckets = await LoginFailures(transaction.session).buckets(keys)
            for bucket in buckets:
                limit = keys[bucket.key]
                wait_s = limit.wait_s(limit.level(bucket.level, bucket.at, now))
                if wait_s > 0:
                    metrics.LOGINS.labels("throttled").inc()
                    raise TooMany(
                        "auth.too-many-failures",
                        "Too many wrong passwords; try again in {seconds} seconds.",
                        seconds=int(wait_s) + 1,
                        retry_after_s=int(wait_s) + 1,
                    )
            identities = Identities(transaction.session)
            user = await identities.by_name(name)
            if user is None:
                return None
            groups = await identities.groups_of([user.id])
        return _Account(
            user,
            frozenset(groups.get(user.id, [])),
            any(bucket.key.startswith("a:") for bucket in buckets),
        )

    async def _failed(self, keys: dict[str, Limit]) -> None:
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            failures = LoginFailures(transaction.session)
            for key in sorted(keys):  # one order, so that two failures never wait for each other
                await failures.fill(key, keys[key], now)

    async def _welcome(self, account: _Account, key: str) -> Identity:
        metrics.LOGINS.labels("ok").inc()
        if account.failed_before:
            async with self._unit() as transaction:
                await LoginFailures(transaction.session).empty(key)
        return account.identity

    # --- clients that send the password every time ----------------------------------------------

    def _remembers(self, user: User, name: str, password: str) -> bool:
        """Whether this password was checked lately against the hash the user has *now*."""
        entry = self._checked.get(self._key(name, password))
        if entry is None or user.disabled:
            return False
        stored, at = entry
        fresh = self._unit.clock.now() - at < REMEMBERED
        return fresh and hmac.compare_digest(stored, user.password_hash)

    def _remember(self, user: User, name: str, password: str) -> None:
        if len(self._checked) >= REMEMBERED_MOST:
            self._checked.clear()
        self._checked[self._key(name, password)] = (user.password_hash, self._unit.clock.now())

    def _key(self, name: str, password: str) -> bytes:
        return hmac.digest(self._salt, f"{name}\0{password}".encode(), hashlib.sha256)
