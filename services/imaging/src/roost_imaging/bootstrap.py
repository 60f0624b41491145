"""The only place where the parts of imaging are built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roost_common.bus import Bus, Subscription
from roost_common.clock import Clock, SystemClock
from roost_common.db import Database
from roost_common.http import create_app, keys_from
from roost_common.lease import Lease
from roost_common.loops import Loop
from roost_common.outbox import Relay, UnitOfWork
from roost_common.security import KeySource, TokenVerifier
from roost_common.service import Parts
from roost_imaging import api
from roost_imaging.api.dependencies import UseCases
from roost_imaging.disks import DiskKeeper
from roost_imaging.handlers import QUEUE, Handlers
from roost_imaging.image_inspection import Inspection
from roost_imaging.import_job import ImportJob
from roost_imaging.imports import Imports
from roost_imaging.jobs import JobDesk
from roost_imaging.lanes import Lanes
from roost_imaging.qemu_img import QemuImg
from roost_imaging.reaper import Reaper
from roost_imaging.settings import Settings
from roost_imaging.single import Duties
from roost_imaging.storage import StorageKeeper
from roost_imaging.templates import TemplateKeeper
from roost_imaging.wakers import Wakers
from roost_imaging.worker import Worker

LEASE_RENEWED_S = 1.0
JOB_POLL_S = 1.0
"""How soon a job of another copy, or of a worker that died, is noticed."""
PRUNE_INTERVAL_S = 3600.0
ANNOUNCE_INTERVAL_S = 600.0
"""How long a consumer that missed a template's event may go without it."""


@asynccontextmanager
async def build(
    settings: Settings, *, clock: Clock | None = None, keys: KeySource | None = None
) -> AsyncIterator[Parts]:
    """Everything that runs; tests replace the clock and the source of broker's keys."""
    clock = clock or SystemClock()
    database = Database(
        settings.database_url.get_secret_value(), "imaging", pool=settings.database_pool
    )
    bus = Bus(settings.amqp_url.get_secret_value(), "imaging", clock=clock)
    unit = UnitOfWork(database, "imaging", clock)
    relay = Relay(database, unit, bus)
    lanes = Lanes(settings.storage_timeout_s)
    qemu = QemuImg(
        memory_bytes=settings.qemu_img_memory_bytes,
        info_cpu_s=settings.qemu_img_info_cpu_s,
        job_cpu_s=settings.qemu_img_job_cpu_s,
        short_timeout_s=settings.storage_timeout_s,
        job_timeout_s=settings.job_timeout_s,
        convert_bytes_per_s=settings.convert_bytes_per_s,
    )
    qemu.require()
    inspection = Inspection(
        qemu,
        lanes,
        import_dir=settings.import_dir,
        max_virtual_bytes=settings.max_virtual_bytes,
    )
    reserve = settings.min_free_bytes
    wake_workers = Wakers()
    disks = DiskKeeper(unit, qemu, lanes, reserve=reserve)
    storage = StorageKeeper(unit, lanes, storage_root=settings.storage_root, reserve=reserve)
    templates = TemplateKeeper(unit, lanes)
    import_job = ImportJob(unit, inspection, qemu, lanes, reserve=reserve)
    lease = Lease("imaging.storage", unit, clock)
    reaper = Reaper(
        unit,
        lanes,
        disks,
        templates,
        recount_age_s=settings.recount_age_s,
        recount_batch=settings.recount_batch,
    )
    wake_duties = Wakers()
    duties = Duties(unit, relay, lease=lease, storage=storage, reaper=reaper, on_taken=wake_duties)
    workers = [
        Loop(
            f"worker-{number}",
            Worker(
                unit, import_job, lease_s=settings.job_lease_s, attempts=settings.job_attempts
            ).step,
            JOB_POLL_S,
        )
        for number in range(settings.jobs_parallel)
    ]
    wake_workers.set(workers)
    watching = [
        Loop("capacity", duties.watch, settings.capacity_interval_s),
        Loop("reaper", duties.reap, settings.reaper_interval_s),
    ]
    wake_duties.set(watching)
    loops = [
        *workers,
        *watching,
        Loop("lease", duties.renew, LEASE_RENEWED_S),
        Loop("announce", duties.announce, ANNOUNCE_INTERVAL_S),
        Loop("prune", duties.forget, PRUNE_INTERVAL_S),
    ]
    bus.subscribe(Subscription(QUEUE, Handlers(disks).handle, settings.prefetch))
    app = create_app(
        "imaging",
        routers=api.ROUTERS,
        checks={"database": database.ping, "bus": bus.wait_connected},
        verifier=TokenVerifier(keys or keys_from(settings.jwks_url), clock),
    )
    app.state.use_cases = UseCases(
        unit_of_work=unit,
        storage=storage,
        imports=Imports(unit, inspection, lanes, wake_workers, reserve=reserve),
        templates=templates,
        jobs=JobDesk(unit, wake_workers),
    )
    yield Parts(
        bus=bus,
        app=app,
        tasks={"relay": relay.run, **{loop.name: loop.run for loop in loops}},
        on_stop=[duties.release, database.close],
    )
