"""The only place that builds things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from roost_broker.accounts import Accounts
from roost_broker.api import ROUTERS
from roost_broker.api.parts import Broker
from roost_broker.displays import Displays
from roost_broker.ending import Ending
from roost_broker.handlers import SAMPLES, WORK, Handlers
from roost_broker.launch_decision import LaunchDecision
from roost_broker.launching import Launching
from roost_broker.login import Limits, Login
from roost_broker.passwords import Passwords
from roost_broker.pool_loop import PoolLoop
from roost_broker.pools import PoolAdministration
from roost_broker.reaper import Reaper
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.sessions import Sessions
from roost_broker.settings import Settings
from roost_broker.sightings import Sightings
from roost_broker.throttle import Limit
from roost_broker.waiting_room import WaitingRoom
from roost_common.bus import Bus, Subscription
from roost_common.clock import Clock, SystemClock
from roost_common.db import Database
from roost_common.http import create_app
from roost_common.outbox import Relay, UnitOfWork
from roost_common.security import TokenSigner, TokenVerifier
from roost_common.service import Parts


@asynccontextmanager
async def build(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Parts]:
    """The service's parts, not running yet; the database is migrated before."""
    clock = clock or SystemClock()
    database = Database(
        settings.database_url.get_secret_value(), "broker", pool=settings.database_pool
    )
    unit_of_work = UnitOfWork(database, "broker", clock)
    bus = Bus(settings.amqp_url.get_secret_value(), "broker", clock=clock)
    relay = Relay(database, unit_of_work, bus)
    signer = TokenSigner.from_file(
        settings.signing_key_file, clock, lifetime=timedelta(seconds=settings.token_lifetime_s)
    )
    passwords = Passwords(concurrency=settings.login_concurrency, queue=settings.login_queue)
    abandoned = timedelta(seconds=settings.launch_abandoned_s)

    async def count_free(pool_ids: Collection[UUID]) -> dict[UUID, int]:
        async with unit_of_work() as transaction:
            return await Desktops(transaction.session).free(list(pool_ids))

    waiting_room = WaitingRoom(count_free)
    pool_loop = PoolLoop(
        unit_of_work,
        interval_s=settings.pool_interval_s,
        shrink_after=timedelta(seconds=settings.shrink_after_s),
        abandoned=abandoned,
    )

    def moved(pool_id: UUID) -> None:
        pool_loop.wake(pool_id)
        waiting_room.wake()

    async def reopened(boot_id: UUID, since: datetime) -> bool:
        async with unit_of_work() as transaction:
            return await Sessions(transaction.session).ticket_since(boot_id, since)

    displays = Displays(
        bus,
        clock,
        reopened,
        valid_s=settings.ticket_valid_s,
        deadline_s=settings.display_deadline_s,
    )
    ending = Ending(displays, moved, clock)
    pool_loop.ends_with(ending)
    reaper = Reaper(
        unit_of_work,
        ending,
        relay,
        sessions_kept=timedelta(days=settings.sessions_kept_days),
        abandoned=abandoned,
    )
    handlers = Handlers(unit_of_work, Sightings(unit_of_work), ending, moved)
    bus.subscribe(Subscription(WORK, handlers.work, prefetch=settings.prefetch))
    bus.subscribe(Subscription(SAMPLES, handlers.sample, prefetch=settings.prefetch))
    accounts = Accounts(unit_of_work, passwords, ending)
    broker = Broker(
        settings=settings,
        unit_of_work=unit_of_work,
        signer=signer,
        login=Login(unit_of_work, passwords, _limits(settings)),
        accounts=accounts,
        pools=PoolAdministration(
            unit_of_work,
            moved,
            pending_timeout_s=settings.pending_timeout_s,
            disconnect_timeout_s=settings.disconnect_timeout_s,
        ),
        launching=Launching(
            unit_of_work, LaunchDecision(clock, moved, abandoned), displays, ending
        ),
        ending=ending,
        waiting_room=waiting_room,
    )
    app = create_app(
        "broker",
        routers=ROUTERS,
        checks={"database": database.ping, "bus": _check(bus)},
        verifier=TokenVerifier(_own_keys(signer), clock),
    )
    app.state.broker = broker
    if settings.admin_password_file is not None:
        password = settings.admin_password_file.read_text().strip()
        await accounts.ensure_first_admin(password)
    try:
        yield Parts(
            bus=bus,
            app=app,
            tasks={
                "relay": relay.run,
                "pools": pool_loop.run,
                "reaper": reaper.reaping.run,
                "forget": reaper.forgetting.run,
                "displays": displays.run,
                "waiting-room": waiting_room.run,
            },
            on_stopping=[waiting_room.close],
        )
    finally:
        passwords.close()
        await database.close()


def _limits(settings: Settings) -> Limits:
    return Limits(
        address=Limit(settings.login_failures_per_address, settings.login_window_s),
        user=Limit(settings.login_failures_per_user, settings.login_window_s),
    )


def _own_keys(signer: TokenSigner) -> Any:
    async def keys() -> dict[str, Any]:
        return signer.jwks()

    return keys


def _check(bus: Bus) -> Any:
    async def check() -> None:
        await bus.wait_connected(1.0)

    return check
