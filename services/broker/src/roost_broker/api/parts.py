"""What endpoints find beside a request: the use cases, and who asks."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Header, Request

from roost_broker.accounts import Accounts
from roost_broker.ending import Ending
from roost_broker.launching import Launching
from roost_broker.login import Login
from roost_broker.pools import PoolAdministration
from roost_broker.repository.identities import Identities
from roost_broker.repository.launches import Launches
from roost_broker.settings import Settings
from roost_broker.waiting_room import WaitingRoom
from roost_common import http
from roost_common.db import AsyncSession
from roost_common.errors import Unauthenticated
from roost_common.outbox import UnitOfWork
from roost_common.security import Identity, TokenSigner

BASIC_MOST = 1024
"""Characters of a Basic authorization that are looked at."""


@dataclass(frozen=True)
class Broker:
    """The use cases, made by `bootstrap`; ``app.state.broker``."""

    settings: Settings
    unit_of_work: UnitOfWork
    signer: TokenSigner
    login: Login
    accounts: Accounts
    pools: PoolAdministration
    launching: Launching
    ending: Ending
    waiting_room: WaitingRoom

    def launches(self, session: AsyncSession) -> Launches:
        """The queue, as a transaction sees it."""
        return Launches(session, timedelta(seconds=self.settings.launch_abandoned_s))


async def broker(request: Request) -> Broker:
    """The use cases."""
    found: Broker = request.app.state.broker
    return found


Parts = Annotated[Broker, Depends(broker)]


async def caller(parts: Parts, who: Annotated[Identity, Depends(http.identity)]) -> Identity:
    """The bearer of the token, with the roles and groups of this moment.

    A token outlives what it says; here, where users are known, what counts is what is.
    """
    async with parts.unit_of_work() as transaction:
        identities = Identities(transaction.session)
        user = await identities.live(who.id)
        if user is None:
            raise Unauthenticated("auth.user-disabled", "This user may not log on any more.")
        groups = await identities.groups_of([user.id])
    return user.identity(frozenset(groups.get(user.id, [])))


async def administrator(who: Annotated[Identity, Depends(caller)]) -> Identity:
    """The same, and it must be an administrator. Raises `Forbidden`."""
    who.require_admin()
    return who


async def launcher(
    request: Request, parts: Parts, authorization: Annotated[str | None, Header()] = None
) -> Identity:
    """The bearer of a token, or whoever's name and password stand in HTTP Basic (RFC 7617)."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return await http.identity(request, authorization)
    try:
        text = base64.b64decode(value.strip()[:BASIC_MOST], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    name, colon, password = text.partition(":")
    if not colon or not name or "\x00" in text:
        raise Unauthenticated("auth.basic-malformed", "The Basic authorization cannot be read.")
    return await parts.login.authenticate(name, password, address(request))


def address(request: Request) -> str:
    """Where the request comes from, as far as trusted proxies tell."""
    return request.client.host[:64] if request.client else ""


Caller = Annotated[Identity, Depends(caller)]
Admin = Annotated[Identity, Depends(administrator)]
Launcher = Annotated[Identity, Depends(launcher)]
