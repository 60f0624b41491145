"""Which host carries a desktop: filters, then a weight. Pure; the reservation is the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from roost_common.contracts.base import Problem
from roost_common.contracts.host import GuestSize

NO_HOST = "placement.no-host"
NO_CAPACITY = "placement.no-capacity"
SPEC_BEYOND_HOSTS = "placement.spec-beyond-hosts"


class Policy(StrEnum):
    """How desktops are laid out over the hosts."""

    SPREAD = "spread"
    """Evenly: the host with the most room left."""
    PACK = "pack"
    """On few hosts, so that others stay empty: the host with the least room left."""


@dataclass(frozen=True)
class Overcommit:
    """How much is promised on a host, in relation to what it has."""

    cpu_ratio: float = 10.0
    """vCPUs per logical processor."""
    memory_ratio: float = 1.0
    """Guests' memory per memory of the host, after the reserve; above 1 needs KSM or swap."""
    memory_reserve_mib: int = 512
    """For the node itself: kernel, libvirt, agent, QEMU's own use."""


@dataclass(frozen=True)
class Demand:
    """What a desktop needs."""

    vcpus: int
    memory_mib: int
    shunned: str | None = None
    """A host that just refused it: taken only where there is no other."""


@dataclass(frozen=True)
class Candidate:
    """A known host, as far as placement cares."""

    name: str
    usable: bool
    """Up, approved, not in maintenance."""
    cpus: int
    memory_mib: int
    max_vcpus: int
    spice: bool = True
    used_vcpus: int = 0
    used_memory_mib: int = 0
    cluster: UUID | None = None
    """Desktops that run move only within it."""
    policy: Policy | None = None
    """Its cluster's way, where that has one of its own."""

    def taking(self, demand: Demand) -> Candidate:
        """The same host with this desktop on it."""
        return replace(
            self,
            used_vcpus=self.used_vcpus + demand.vcpus,
            used_memory_mib=self.used_memory_mib + demand.memory_mib,
        )

    def memory_limit_mib(self, overcommit: Overcommit) -> float:
        """Most memory all its desktops together may have."""
        return max(0, self.memory_mib - overcommit.memory_reserve_mib) * overcommit.memory_ratio

    def vcpu_limit(self, overcommit: Overcommit) -> float:
        """Most vCPUs all its desktops together may have."""
        return self.cpus * overcommit.cpu_ratio

    def largest_guest(self, overcommit: Overcommit) -> tuple[int, int]:
        """vCPUs and MiB of the largest desktop for which it has room when it is empty."""
        if not self.spice:
            return 0, 0
        vcpus = min(self.max_vcpus, int(self.vcpu_limit(overcommit)))
        return vcpus, int(self.memory_limit_mib(overcommit))

    def could_carry(self, demand: Demand, overcommit: Overcommit) -> bool:
        """Whether it has room for it when it is empty."""
        vcpus, memory_mib = self.largest_guest(overcommit)
        return demand.vcpus <= vcpus and demand.memory_mib <= memory_mib

    def has_room(self, demand: Demand, overcommit: Overcommit) -> bool:
        """Whether it has room for it now."""
        return (
            self.could_carry(demand, overcommit)
            and self.used_vcpus + demand.vcpus <= self.vcpu_limit(overcommit)
            and self.used_memory_mib + demand.memory_mib <= self.memory_limit_mib(overcommit)
        )

    def fullness(self, demand: Demand, overcommit: Overcommit) -> float:
        """Share of its scarcer resource in use with this desktop on it, 0 to 1."""
        return max(
            (self.used_vcpus + demand.vcpus) / self.vcpu_limit(overcommit),
            (self.used_memory_mib + demand.memory_mib) / self.memory_limit_mib(overcommit),
        )


def choose(
    hosts: Iterable[Candidate],
    demand: Demand,
    *,
    overcommit: Overcommit,
    policy: Policy = Policy.SPREAD,
) -> Candidate | Problem:
    """The host for one desktop, or why there is none.

    ``hosts`` are all known ones: those that are away now tell "never" from "not now".
    """
    known = list(hosts)
    usable = [host for host in known if host.usable]
    if known and not any(host.could_carry(demand, overcommit) for host in known):
        return _beyond(demand)
    if not usable:
        return Problem(code=NO_HOST, detail="No host is up that takes desktops.")
    fitting = [host for host in usable if host.has_room(demand, overcommit)]
    if not fitting:
        return Problem(
            code=NO_CAPACITY,
            detail=f"No host has {demand.vcpus} vCPUs and {demand.memory_mib} MiB left.",
        )

    def rank(host: Candidate, way: Policy) -> tuple[bool, float, str]:
        sign = 1 if way is Policy.SPREAD else -1
        return host.name == demand.shunned, sign * host.fullness(demand, overcommit), host.name

    # Each cluster offers one host after its own fashion; between them the site's setting decides.
    offers: dict[UUID | None, Candidate] = {}
    for host in fitting:
        best = offers.get(host.cluster)
        way = host.policy or policy
        if best is None or rank(host, way) < rank(best, way):
            offers[host.cluster] = host
    return min(offers.values(), key=lambda host: rank(host, policy))


def choose_all(
    hosts: Sequence[Candidate],
    demands: Sequence[Demand],
    *,
    overcommit: Overcommit,
    policy: Policy = Policy.SPREAD,
) -> list[str | Problem]:
    """The same for many desktops one after the other, each with the earlier ones in place."""
    by_name = {host.name: host for host in hosts}
    answers: list[str | Problem] = []
    for demand in demands:
        chosen = choose(by_name.values(), demand, overcommit=overcommit, policy=policy)
        if isinstance(chosen, Problem):
            answers.append(chosen)
        else:
            by_name[chosen.name] = chosen.taking(demand)
            answers.append(chosen.name)
    return answers


def beyond_all(
    hosts: Iterable[Candidate], demand: Demand, *, overcommit: Overcommit
) -> Problem | None:
    """Why no known host could ever carry it; None where one could, or where none is known yet."""
    known = list(hosts)
    if not known or any(host.could_carry(demand, overcommit) for host in known):
        return None
    return _beyond(demand)


def largest_guests(
    hosts: Iterable[Candidate], *, overcommit: Overcommit
) -> tuple[GuestSize, ...] | None:
    """What `beyond_all` decides by, for those who ask elsewhere; None where no host is known."""
    sizes = {host.largest_guest(overcommit) for host in hosts}
    # One that another exceeds in both says nothing.
    tops = {
        (vcpus, memory)
        for vcpus, memory in sizes
        if not any(
            (vcpus, memory) != other and vcpus <= other[0] and memory <= other[1] for other in sizes
        )
    }
    largest = tuple(GuestSize(vcpus=vcpus, memory_mib=memory) for vcpus, memory in sorted(tops))
    return largest or None


def _beyond(demand: Demand) -> Problem:
    return Problem(
        code=SPEC_BEYOND_HOSTS,
        detail=f"No known host can carry {demand.vcpus} vCPUs and {demand.memory_mib} MiB.",
    )
