"""Builds what judges, grants, fences and follows: all that the copy which decides does."""

from __future__ import annotations

from dataclasses import dataclass

from roost_common.bus import Bus, Subscription
from roost_common.clock import Clock
from roost_common.loops import Loop
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.devices import Devices
from roost_ha_monitor.fencing.fence_agents import FenceAgents
from roost_ha_monitor.fencing.round import Rounds
from roost_ha_monitor.following import Following
from roost_ha_monitor.granting import Granting
from roost_ha_monitor.handlers import Handlers
from roost_ha_monitor.leading import Leading
from roost_ha_monitor.losses import Losses
from roost_ha_monitor.maintenance import Maintenance
from roost_ha_monitor.node_tasks import NodeTasks
from roost_ha_monitor.powering import Powering
from roost_ha_monitor.sealed import Sealer
from roost_ha_monitor.second_path import SecondPath
from roost_ha_monitor.settings import Settings
from roost_ha_monitor.watch import Watch
from roost_ha_monitor.witness import Witness


@dataclass(frozen=True)
class Acting:
    """What was built, as far as others need it."""

    witness: Witness
    devices: Devices
    tasks: NodeTasks
    loops: list[Loop]
    subscription: Subscription


def build(
    settings: Settings,
    *,
    bus: Bus,
    unit_of_work: UnitOfWork,
    leading: Leading,
    ears: Ears,
    sealer: Sealer,
    clock: Clock,
) -> Acting:
    """Wires it up; nothing runs yet."""
    witness = Witness(settings.probe_ports, settings.ha_dir, clock)
    granting = Granting(
        ears,
        leading,
        unit_of_work,
        bus,
        clock,
        margin_s=settings.lease_margin_s,
    )
    agents = FenceAgents(
        settings.fence_agents_dir,
        switch_timeout_s=settings.fence_switch_timeout_s,
        status_timeout_s=settings.fence_status_timeout_s,
    )
    devices = Devices(unit_of_work, agents, sealer, ears, clock)
    rounds = Rounds(agents, witness, ears, clock, address=granting.address)
    tasks = NodeTasks()
    following = Following(
        unit_of_work,
        leading,
        clock,
        ears=ears,
        granting=granting,
        devices=devices,
        rounds=rounds,
        tasks=tasks,
        fence_at_most=settings.fence_at_most,
    )
    watch = Watch(
        ears,
        leading,
        unit_of_work,
        clock,
        policy=settings.policy,
        witness=witness,
        granting=granting,
        agent_silent_after_s=settings.agent_silent_after_s,
        downed=following.wake,
    )
    powering = Powering(
        unit_of_work,
        leading,
        clock,
        devices=devices,
        rounds=rounds,
        tasks=tasks,
        watch=watch,
    )
    second_path = SecondPath(
        unit_of_work,
        leading,
        ears,
        clock,
        witness=witness,
        granting=granting,
        every_s=settings.second_path_check_s,
    )

    def decided() -> None:
        watch.forget()
        following.wake()

    handlers = Handlers(
        Losses(unit_of_work, following.wake), Maintenance(unit_of_work, decided), powering
    )

    async def check_devices() -> None:
        if leading.held:
            await devices.check(tasks)

    return Acting(
        witness=witness,
        devices=devices,
        tasks=tasks,
        loops=[
            *watch.loops,
            *granting.loops,
            *second_path.loops,
            *following.loops,
            *powering.loops,
            Loop("fence-devices", check_devices, settings.fence_check_s),
        ],
        subscription=Subscription(handlers.queue, handlers.handle),
    )
