"""The only place that builds the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roost_common.bus import Bus, Subscription
from roost_common.clock import Clock, SystemClock
from roost_common.db import Database
from roost_common.errors import Unavailable
from roost_common.http import create_app, keys_from
from roost_common.lease import Lease
from roost_common.loops import Loop
from roost_common.outbox import Relay, UnitOfWork
from roost_common.security import KeySource, TokenVerifier
from roost_common.service import Parts
from roost_inventory.api import ROUTERS
from roost_inventory.api.parts import Inventory
from roost_inventory.balancer import LEASE, PASS_EVERY_S, RENEW_EVERY_S, Balancer, Commands
from roost_inventory.evacuation import EVERY_S, Evacuations
from roost_inventory.handlers import SERVICE, Handlers
from roost_inventory.limits import LOOK_EVERY_S, Limits
from roost_inventory.migrating import Migrating
from roost_inventory.reconciler import Reconciler
from roost_inventory.settings import Settings
from roost_inventory.upkeep import COUNT_EVERY_S, FORGET_EVERY_S, Upkeep


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    keys: KeySource | None = None,
) -> AsyncIterator[Parts]:
    """Inventory's parts; ``clock`` and ``keys`` are another in tests."""
    clock = clock or SystemClock()
    database = Database(
        settings.database_url.get_secret_value(), SERVICE, pool=settings.database_pool
    )
    bus = Bus(settings.amqp_url.get_secret_value(), SERVICE, clock=clock)
    unit_of_work = UnitOfWork(database, SERVICE, clock)
    relay = Relay(database, unit_of_work, bus)
    reconciler = Reconciler(unit_of_work, settings)
    loop = Loop("reconcile", reconciler.step, settings.reconcile_interval_s)
    handlers = Handlers(unit_of_work, settings, loop.wake)
    migrating = Migrating(unit_of_work, settings, loop.wake)
    evacuations = Evacuations(unit_of_work, settings, migrating)
    lease = Lease(LEASE, unit_of_work, clock)
    balancer = Balancer(unit_of_work, settings, lease, Commands(migrating))
    upkeep = Upkeep(unit_of_work, relay)

    bus.subscribe(Subscription(handlers.work_queue, handlers.handle, settings.prefetch))
    bus.subscribe(Subscription(handlers.samples_queue, handlers.handle, settings.prefetch))

    async def bus_check() -> None:
        if not bus.connected:
            raise Unavailable("bus.unavailable", "The bus does not answer.")

    app = create_app(
        SERVICE,
        routers=ROUTERS,
        checks={"database": database.ping, "bus": bus_check},
        verifier=TokenVerifier(keys or keys_from(settings.jwks_url), clock),
    )
    app.state.inventory = Inventory(unit_of_work, settings, bus, loop.wake)
    yield Parts(
        bus=bus,
        app=app,
        tasks={
            "relay": relay.run,
            "reconcile": loop.run,
            "evacuate": Loop("evacuate", evacuations.step, EVERY_S).run,
            "limits": Loop("limits", Limits(unit_of_work, settings).step, LOOK_EVERY_S).run,
            "lease": Loop("lease", balancer.renew, RENEW_EVERY_S).run,
            "balance": Loop("balance", balancer.step, PASS_EVERY_S).run,
            "count": Loop("count", upkeep.count, COUNT_EVERY_S).run,
            "forget": Loop("forget", upkeep.forget, FORGET_EVERY_S).run,
        },
        on_stop=[balancer.release, database.close],
    )
