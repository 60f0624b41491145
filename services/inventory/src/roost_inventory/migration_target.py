"""Where a running desktop can be moved to. Pure; the reservation is the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from roost_common.contracts.base import Problem
from roost_common.contracts.host import HostCapabilities
from roost_inventory.placement import (
    NO_CAPACITY,
    NO_HOST,
    SPEC_BEYOND_HOSTS,
    Candidate,
    Demand,
    Overcommit,
    Policy,
    choose,
)

SAME_HOST: Final = "migration.same-host"
INCOMPATIBLE: Final = "migration.incompatible-host"
OTHER_CLUSTER: Final = "migration.other-cluster"
UNUSABLE: Final = "host.unusable"


def target_for(
    demand: Demand,
    source: str,
    wanted: str | None,
    *,
    hosts: Sequence[Candidate],
    abilities: Mapping[str, HostCapabilities],
    overcommit: Overcommit,
    policy: Policy = Policy.SPREAD,
) -> str | Problem:
    """The host to move a desktop to, or why it cannot be moved. It stays in its cluster.

    ``wanted`` None lets placement choose. ``hosts`` are all known ones.
    """
    here = next((one.cluster for one in hosts if one.name == source), None)
    strange = {one.name for one in hosts if one.cluster != here and one.name != source}
    if wanted in strange:
        detail = f"{wanted} is in another cluster than {source}."
        return Problem(code=OTHER_CLUSTER, detail=detail)
    if wanted is not None:
        return _named(
            demand, source, wanted, hosts=hosts, abilities=abilities, overcommit=overcommit
        )
    others = [one for one in hosts if one.name != source and one.name not in strange]
    if not any(one.usable for one in others):
        return Problem(code=NO_HOST, detail=f"No other host than {source} takes desktops.")
    fit = [one for one in others if _differs(abilities, source, one.name) is None]
    if not any(one.usable for one in fit):
        return Problem(
            code=INCOMPATIBLE,
            detail=f"A guest of {source} goes on only on a host of the same kind, and none is up.",
        )
    chosen = choose(fit, demand, overcommit=overcommit, policy=policy)
    return _no_mistake(demand, chosen) if isinstance(chosen, Problem) else chosen.name


def _no_mistake(demand: Demand, problem: Problem) -> Problem:
    """Its own host can carry it, whatever the others can: that it runs is not wrong."""
    if problem.code != SPEC_BEYOND_HOSTS:
        return problem
    return Problem(
        code=NO_CAPACITY,
        detail=f"No other host can carry {demand.vcpus} vCPUs and {demand.memory_mib} MiB.",
    )


def _named(
    demand: Demand,
    source: str,
    wanted: str,
    *,
    hosts: Sequence[Candidate],
    abilities: Mapping[str, HostCapabilities],
    overcommit: Overcommit,
) -> str | Problem:
    if wanted == source:
        return Problem(code=SAME_HOST, detail=f"It runs on {source} already.")
    found = next((one for one in hosts if one.name == wanted), None)
    if found is None or not found.usable:
        return Problem(code=UNUSABLE, detail=f"{wanted} takes no desktops now.")
    difference = _differs(abilities, source, wanted)
    if difference is not None:
        return Problem(code=INCOMPATIBLE, detail=difference)
    if not found.has_room(demand, overcommit):
        return Problem(
            code=NO_CAPACITY,
            detail=f"{wanted} has not {demand.vcpus} vCPUs and {demand.memory_mib} MiB left.",
        )
    return wanted


def _differs(abilities: Mapping[str, HostCapabilities], source: str, target: str) -> str | None:
    """Why a running guest of the one cannot go on on the other.

    Under KVM a guest has the processor of its host (libvirt's ``host-model``), so it moves only
    between equal ones; an emulated processor is the same everywhere.
    """
    here, there = abilities.get(source), abilities.get(target)
    if here is None or there is None:
        return f"It is not known whether {target} can run what runs on {source}."
    if here.virt_type != there.virt_type:
        return f"{source} runs guests by {here.virt_type}, {target} by {there.virt_type}."
    if here.virt_type != "qemu" and here.cpu_model != there.cpu_model:
        return (
            f"The guest has the processor of {source} ({here.cpu_model or 'unknown'}), "
            f"{target} has another ({there.cpu_model or 'unknown'})."
        )
    return None
