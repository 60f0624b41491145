"""The only place that builds ha-monitor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from roost_common import idempotency, log
from roost_common.bus import Bus, Subscription
from roost_common.clock import Clock, SystemClock
from roost_common.db import Database
from roost_common.errors import Outage
from roost_common.http import create_app, keys_from
from roost_common.lease import Lease
from roost_common.loops import Loop
from roost_common.outbox import INBOX_KEPT, Relay, UnitOfWork
from roost_common.security import KeySource, TokenVerifier
from roost_common.service import Parts
from roost_ha_monitor import acting
from roost_ha_monitor.api import Api, FencingApi, IncidentsApi
from roost_ha_monitor.ears import Ears, SelfBeat
from roost_ha_monitor.leading import LEASE, Leading
from roost_ha_monitor.notifications.api import NotificationsApi
from roost_ha_monitor.notifications.courier import Courier
from roost_ha_monitor.notifications.repository import Notifications
from roost_ha_monitor.notifications.senders import Senders
from roost_ha_monitor.repository import Alerts, Desktops, Incidents
from roost_ha_monitor.sealed import Sealer
from roost_ha_monitor.settings import Settings

logger = log.get_logger(__name__)

RENEW_S: Final = 1.0
"""A quarter of the lease's life: three tries may fail before another copy takes over."""
HOUSEKEEPING_S: Final = 30.0


@asynccontextmanager
async def build(
    settings: Settings, *, clock: Clock | None = None, keys: KeySource | None = None
) -> AsyncIterator[Parts]:
    """Everything, ready to run; closed at the end of the block."""
    clock = clock or SystemClock()
    database = Database(
        settings.database_url.get_secret_value(), "ha_monitor", pool=settings.database_pool
    )
    bus = Bus(settings.amqp_url.get_secret_value(), "ha-monitor", clock=clock)
    unit_of_work = UnitOfWork(database, "ha-monitor", clock)
    relay = Relay(database, unit_of_work, bus)
    lease = Lease(LEASE, unit_of_work, clock)
    ears = Ears(lease.holder, clock, silent_after_s=settings.suspect_after_s)
    sealer = Sealer.from_file(settings.secret_key_file)
    parts = acting.build(
        settings,
        bus=bus,
        unit_of_work=unit_of_work,
        leading=Leading(lease, clock),
        ears=ears,
        sealer=sealer,
        clock=clock,
    )
    senders = Senders(sealer, settings.runbooks_url)
    courier = Courier(unit_of_work, senders)
    bus.subscribe(Subscription(ears.queue, ears.handle, prefetch=settings.prefetch))
    bus.subscribe(parts.subscription)

    async def renew() -> None:
        if ears.observing_since(clock.monotonic()) is not None:
            await lease.renew()
        elif lease.held:
            # Who hears nothing can judge nobody; another copy may hear.
            logger.warning("lease.given-up", lease=LEASE, why="deaf")
            await lease.release()

    async def keep_house() -> None:
        await relay.pending()
        await relay.prune_inbox()
        async with unit_of_work() as transaction:
            limit = clock.now() - timedelta(days=settings.alerts_kept_days)
            await Alerts(transaction.session).prune(limit)
            older = clock.now() - timedelta(days=settings.incidents_kept_days)
            await Incidents(transaction.session).prune(older)
            await Desktops(transaction.session).prune(clock.now() - INBOX_KEPT)
            await Notifications(transaction.session).prune(limit)
            await idempotency.forget(transaction, clock.now() - idempotency.KEPT)

    async def release() -> None:
        try:
            await lease.release()
        except Outage:
            # It ends by itself; the next copy waits for that instead.
            logger.info("lease.not-released", lease=LEASE)

    async def bus_is_there() -> None:
        await bus.wait_connected(1.0)

    loops = [
        Loop("lease", renew, RENEW_S),
        Loop("housekeeping", keep_house, HOUSEKEEPING_S),
        *parts.loops,
    ]
    app = create_app(
        "ha-monitor",
        routers=[
            Api(unit_of_work, ears, clock, lease.holder).router,
            FencingApi(unit_of_work, parts.devices, clock).router,
            IncidentsApi(unit_of_work, ears, parts.witness, clock).router,
            NotificationsApi(unit_of_work, sealer, senders, clock).router,
        ],
        checks={"database": database.ping, "bus": bus_is_there},
        verifier=TokenVerifier(keys or keys_from(settings.jwks_url), clock),
    )
    try:
        yield Parts(
            bus=bus,
            app=app,
            tasks={
                "relay": relay.run,
                "witness": parts.witness.run,
                "node-tasks": parts.tasks.run,
                "self-beat": SelfBeat(bus, lease.holder).run,
                "notifications": courier.run,
                **{loop.name: loop.run for loop in loops},
            },
            on_stopping=[courier.stop],
            on_stop=[release],
        )
    finally:
        await database.close()
