"""The only place that builds the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from starlette.applications import Starlette

from roost_common import ops, topology
from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.clock import Clock, SystemClock
from roost_common.contracts.desktop import EnsureDesktop
from roost_common.contracts.host import LeaseGranted
from roost_common.contracts.migration import CancelMigration, MigrateDesktop
from roost_common.loops import endless
from roost_common.service import Parts
from roost_host_agent.address import towards
from roost_host_agent.beat_file import BeatDirectory
from roost_host_agent.handlers import Handlers, Trust
from roost_host_agent.heartbeat import Heartbeat
from roost_host_agent.hypervisor.driver import DomainView, outage
from roost_host_agent.hypervisor.fake import FakeHypervisor
from roost_host_agent.hypervisor.migration import MigratingHypervisor
from roost_host_agent.keeper import Keeper, LeaseEnded
from roost_host_agent.lease import Lease
from roost_host_agent.lease_file import LeaseFile, boot_time
from roost_host_agent.leasehold import Leasehold, inherited
from roost_host_agent.leaving import LEASE_ENDED, leave
from roost_host_agent.migrating import Migrating
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.peer_watch import PeerWatch
from roost_host_agent.reconciler import Reconciler
from roost_host_agent.report import Reporter
from roost_host_agent.restarted import RestartedDesktops
from roost_host_agent.settings import CacheChoice, DriverName, Settings
from roost_host_agent.stopping import Stopping


@dataclass(frozen=True)
class Agent:
    """One node's agent, built and not yet running; a process may hold many."""

    bus: Bus
    driver: MigratingHypervisor
    reconciler: Reconciler
    reporter: Reporter
    tasks: dict[str, Callable[[], Awaitable[None]]]
    """What runs beside the bus, each until cancelled."""

    async def run(self) -> None:
        """The whole agent without its HTTP, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(endless(self.bus.run))
            for name, task in self.tasks.items():
                group.create_task(endless(task), name=name)


def build_agent(
    settings: Settings, *, driver: MigratingHypervisor | None = None, clock: Clock | None = None
) -> Agent:
    """An agent from its settings; ``driver`` and ``clock`` replace the settings' own."""
    clock = clock or SystemClock()
    url = settings.amqp_url.get_secret_value()
    address = settings.address or towards(url)
    bus = Bus(url, "host-agent", clock=clock, central=False)
    driver = driver or _driver(settings, address, clock)
    node = Node(settings.node, address, uuid4())
    observer = Observer(node, bus, clock)
    tenure = _tenure(settings, node, clock)
    leasehold = tenure.leasehold
    reconciler = Reconciler(
        driver,
        observer,
        clock,
        starts_at_once=settings.starts_at_once,
        admit=leasehold.admit,
        seen=leasehold.seen,
    )

    def swept(views: tuple[DomainView, ...]) -> bool:
        reconciler.sweep(views)
        return leasehold.swept(views)

    reporter = Reporter(
        node,
        driver,
        observer,
        bus,
        clock,
        interval_s=settings.report_interval_s,
        sweep=swept,
    )
    heartbeat = Heartbeat(
        node,
        bus,
        clock,
        interval_s=settings.beat_interval_s,
        libvirt=lambda: reporter.libvirt_answers,
        lease=leasehold.beat,
    )

    async def beats() -> None:
        await tenure.peers.tried.wait()
        await heartbeat.run()

    keeper = Keeper(
        leasehold,
        Stopping(driver, reconciler),
        inherited=tenure.inherited,
        boot_time=boot_time,
        interval_s=min(1.0, settings.beat_interval_s),
    )
    migrating = Migrating(node, driver, reconciler, observer, publisher=bus, clock=clock)
    handlers = Handlers(
        driver, reconciler, _trust(settings), agent_id=node.agent_id, migrating=migrating
    )
    bus.subscribe(
        Subscription(
            topology.node_queue(settings.node, EnsureDesktop, MigrateDesktop, CancelMigration),
            handlers.command,
            prefetch=settings.prefetch,
        )
    )
    bus.subscribe(
        QuerySubscription(
            topology.query_queue(settings.node), handlers.question, prefetch=settings.prefetch
        )
    )
    granted = topology.node_samples_queue(settings.node, node.agent_id.hex, LeaseGranted)
    bus.subscribe(Subscription(granted, leasehold.grant))
    tasks: dict[str, Callable[[], Awaitable[None]]] = {
        "reconciler": reconciler.run,
        "migrating": migrating.run,
        "keeper": keeper.run,
        "peers": tenure.peers.run,
        "reporter": reporter.run,
        "heartbeat": beats,
    }
    return Agent(bus, driver, reconciler, reporter, tasks)


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    driver: MigratingHypervisor | None = None,
    clock: Clock | None = None,
    leave: Callable[[int], None] = leave,
) -> AsyncIterator[Parts]:
    """The agent as a service: with its metrics and health.

    When the lease has ended, it calls ``leave`` with `LEASE_ENDED`.
    """
    agent = build_agent(settings, driver=driver, clock=clock)
    agent.tasks["keeper"] = partial(_until_lease_ends, agent.tasks["keeper"], leave)

    async def bus_is_there() -> None:
        await agent.bus.wait_connected(1.0)

    async def libvirt_answers() -> None:
        if not agent.reporter.libvirt_answers:
            raise outage()

    app = Starlette(routes=ops.routes({"bus": bus_is_there, "libvirt": libvirt_answers}))
    yield Parts(bus=agent.bus, app=app, tasks=agent.tasks)


@dataclass(frozen=True)
class _Tenure:
    """The parts of the lease."""

    leasehold: Leasehold
    peers: PeerWatch
    inherited: LeaseFile | None


def _tenure(settings: Settings, node: Node, clock: Clock) -> _Tenure:
    found = inherited(settings.guarded_file)
    lease = Lease(
        node.agent_id, settings.lease_s, inherited=None if found is None else found.deadline
    )
    directory = None if settings.ha_dir is None else BeatDirectory(settings.ha_dir, node.name)
    interval_s = min(1.0, settings.beat_interval_s)
    peers = PeerWatch(node, lease, directory, clock, boot_time=boot_time, interval_s=interval_s)
    leasehold = Leasehold(
        node.agent_id,
        lease,
        lease_s=settings.lease_s,
        path=settings.guarded_file,
        peers=peers,
        desktops=RestartedDesktops(boot_time, () if found is None else found.domains),
        boot_time=boot_time,
    )
    return _Tenure(leasehold, peers, found)


async def _until_lease_ends(
    keep: Callable[[], Awaitable[None]], leave: Callable[[int], None]
) -> None:
    try:
        await keep()
    except LeaseEnded:
        leave(LEASE_ENDED)
        raise


def _driver(settings: Settings, address: str, clock: Clock) -> MigratingHypervisor:
    if settings.driver is DriverName.FAKE:
        return FakeHypervisor(
            address=address, name=settings.node, personality=settings.fake_personality
        )
    # Only here: an agent with the fake driver runs on machines without libvirt.
    from roost_host_agent.hypervisor.libvirt import LibvirtDriver  # noqa: PLC0415
    from roost_host_agent.hypervisor.libvirt_migration import MigrationPath  # noqa: PLC0415

    return LibvirtDriver(
        settings.libvirt_uri,
        address=address,
        profile=settings.profile(address),
        virt_type=settings.wished_virt_type,
        probe_direct_io=settings.disk_cache is CacheChoice.AUTO,
        path=MigrationPath(
            uri=settings.migration_uri,
            tls=settings.migration_tls,
            storage_shared=settings.storage_shared,
        ),
        clock=clock,
    )


def _trust(settings: Settings) -> Trust:
    if settings.spice_ca_file is None:
        return Trust(host_subject=settings.spice_host_subject)
    return Trust(settings.spice_ca_file.read_text(), settings.spice_host_subject)
