"""What the clusters' policies see now, and what they would do: for the balancer and dry runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from roost_common.contracts.host import Health, HostPower, HostState
from roost_common.outbox import Transaction
from roost_inventory.balance import plan
from roost_inventory.model import Administrative, Cluster, Host, HostWatch
from roost_inventory.placement import Candidate, Demand, Overcommit
from roost_inventory.repository import Clusters, Hosts
from roost_inventory.scheduling import Guest, Member, Plan, Scheduling, Standing, View, Waiting
from roost_inventory.waking import coming, placed


@dataclass(frozen=True)
class Outlook:
    """All clusters at one moment."""

    now: datetime
    overcommit: Overcommit
    clusters: Sequence[Cluster]
    """By name."""
    hosts: Sequence[Host]
    rooms: Mapping[str, Candidate]
    watches: Mapping[UUID, HostWatch]
    guests: Sequence[Guest]
    waiting: Sequence[Waiting]

    def plans(self, instead: Mapping[UUID, Scheduling] | None = None) -> dict[UUID, Plan]:
        """What each cluster would do now, ``instead`` with other parameters than its own.

        Clusters are asked by name: what one of them wakes a host for is not asked of the next.
        """
        instead = instead or {}
        views = [self._view(one, instead.get(one.id, one.scheduling)) for one in self.clusters]
        rooms = coming([member for view in views for member in view.members])
        waiting = tuple(one for one in self.waiting if not placed(rooms, one, self.overcommit))
        plans: dict[UUID, Plan] = {}
        for cluster, view in zip(self.clusters, views, strict=True):
            decided = plans[cluster.id] = plan(replace(view, waiting=waiting), self.now)
            waiting = decided.unserved
        return plans

    def _view(self, cluster: Cluster, scheduling: Scheduling) -> View:
        members = [
            self._member(host, room, scheduling)
            for host in self.hosts
            if host.cluster_id == cluster.id and (room := self.rooms.get(host.name)) is not None
        ]
        names = {one.name for one in members}
        guests = [one for one in self.guests if one.host in names]
        return View(
            scheduling=scheduling, overcommit=self.overcommit, members=members, guests=guests
        )

    def _member(self, host: Host, room: Candidate, scheduling: Scheduling) -> Member:
        watch = self.watches.get(host.id) or HostWatch.begun(host.id)
        standing = _standing(host, self.now)
        awake = standing is Standing.AWAKE
        return Member(
            room=room,
            standing=standing,
            load=watch.load(self.now, scheduling.duration_s) if awake else None,
            domains=host.domains,
            trouble=_in_trouble(host),
            kind=_kind(host),
            put_to_sleep=watch.put_to_sleep,
            awake_since=watch.awake_since,
            empty_since=watch.empty_since,
            emptied_at=watch.emptied_at,
            refused_at=host.power_refused_at,
        )


async def look(transaction: Transaction, overcommit: Overcommit, now: datetime) -> Outlook:
    """Read all of it; nothing is locked, so whoever acts on it looks again."""
    clusters, hosts = Clusters(transaction.session), Hosts(transaction.session)
    used = await hosts.use()
    rooms: dict[str, Candidate] = {}
    for room in await hosts.candidates():
        vcpus, memory = used.get(room.name, (0, 0))
        rooms[room.name] = replace(room, used_vcpus=vcpus, used_memory_mib=memory)
    return Outlook(
        now=now,
        overcommit=overcommit,
        clusters=await clusters.all(),
        hosts=await clusters.hosts(),
        rooms=rooms,
        watches=await clusters.watches(),
        guests=await clusters.guests(now),
        waiting=[
            Waiting(one.name, Demand(one.spec.vcpus, one.spec.memory_mib))
            for one in await clusters.waiting()
        ],
    )


def _standing(host: Host, now: datetime) -> Standing:
    if host.administrative is not Administrative.ACTIVE:
        return Standing.AWAY
    if host.usable:
        return Standing.AWAKE
    if host.is_waking(now):
        return Standing.WAKING
    if host.health is Health.OFF and host.power is HostPower.OFF:
        return Standing.ASLEEP
    return Standing.AWAY


def _in_trouble(host: Host) -> bool:
    """It ought to carry desktops and cannot; one that is on its way off or on is in none."""
    return (
        host.administrative is Administrative.ACTIVE
        and host.state is not HostState.OFF
        and not host.usable
    )


def _kind(host: Host) -> str:
    """Under KVM a guest has its host's processor; an emulated one is the same everywhere."""
    can = host.capabilities
    return can.virt_type if can.virt_type == "qemu" else f"{can.virt_type} {can.cpu_model}"
