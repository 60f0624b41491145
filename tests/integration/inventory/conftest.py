"""Inventory with a real database and, where asked for, on a real bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.conftest import NewDatabase
from tests.integration.inventory.site import Site

from roost_common.clock import SystemClock
from roost_common.db import Database
from roost_common.http import create_app
from roost_common.outbox import UnitOfWork
from roost_common.security import Identity, Role, TokenSigner, TokenVerifier, new_signing_key
from roost_common.testing.bus import FakeBus
from roost_common.testing.clock import FakeClock
from roost_inventory.api import ROUTERS
from roost_inventory.api.parts import Inventory
from roost_inventory.handlers import Handlers
from roost_inventory.migrations import MIGRATIONS
from roost_inventory.reconciler import BATCH, Reconciler
from roost_inventory.settings import Settings

SIGNER = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(minutes=30))


async def jwks() -> dict[str, Any]:
    """Broker's keys."""
    return SIGNER.jwks()


def bearer(name: str, *roles: Role) -> dict[str, str]:
    """The header of somebody logged on."""
    who = Identity(id=uuid4(), name=name, roles=frozenset(roles))
    return {"Authorization": f"Bearer {SIGNER.sign(who)}"}


@pytest.fixture
def clock() -> FakeClock:
    """Time that only the test moves."""
    return FakeClock()


@pytest.fixture
async def database_url(new_database: NewDatabase) -> str:
    """A fresh database of inventory's."""
    return await new_database(MIGRATIONS)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings; no address of a bus that anything would use."""
    return Settings(
        amqp_url="amqp://nobody@127.0.0.1:1/",
        listen="127.0.0.1:0",
        database_url=database_url,
        auto_approve=("n*",),
        memory_reserve_mib=0,
    )


NewCopy = Callable[..., Site]


@pytest.fixture
async def new_copy(
    database_url: str, settings: Settings, clock: FakeClock
) -> AsyncIterator[NewCopy]:
    """Makes copies of inventory on one database, each with connections of its own."""
    made: list[Database] = []

    def make(*, batch: int = BATCH) -> Site:
        database = Database(database_url, "inventory", pool=8)
        made.append(database)
        unit = UnitOfWork(database, "inventory", clock)
        return Site(
            database=database,
            unit=unit,
            clock=clock,
            handlers=Handlers(unit, settings, lambda: None),
            reconciler=Reconciler(unit, settings, batch=batch),
            settings=settings,
        )

    yield make
    for database in made:
        await database.close()


@pytest.fixture
def site(new_copy: NewCopy) -> Site:
    """Inventory without a bus: the test hands messages on."""
    return new_copy()


@pytest.fixture
async def fake_bus() -> FakeBus:
    """Questions to nodes are answered by the test."""
    return FakeBus()


@pytest.fixture
async def http(site: Site, fake_bus: FakeBus) -> AsyncIterator[httpx.AsyncClient]:
    """The real application, as an administrator, with the template in its first version."""
    await site.template()
    app = create_app(
        "inventory", routers=ROUTERS, checks={}, verifier=TokenVerifier(jwks, SystemClock())
    )
    bus: Any = fake_bus
    app.state.inventory = Inventory(site.unit, site.settings, bus, lambda: None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://inventory", headers=bearer("root", Role.ADMIN)
    ) as client:
        yield client
