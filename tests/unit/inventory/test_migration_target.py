"""Where a running desktop can go on: not everywhere that it could be started."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from roost_common.contracts.base import Problem
from roost_common.contracts.host import HostCapabilities
from roost_inventory.migration_target import OTHER_CLUSTER, target_for
from roost_inventory.placement import Candidate, Demand, Overcommit, Policy

SMALL = Demand(1, 1024)
PLAIN = Overcommit(memory_reserve_mib=0)


def host(name: str, *, usable: bool = True, memory_mib: int = 8192, used_mib: int = 0) -> Candidate:
    return Candidate(name, usable, 8, memory_mib, 8, True, 0, used_mib)


def can(virt_type: str = "kvm", cpu_model: str = "EPYC") -> HostCapabilities:
    return HostCapabilities(
        cpus=8, memory_mib=8192, cpu_model=cpu_model, virt_type=virt_type, max_vcpus=8
    )


HOSTS = [
    host("n1"),
    host("n2", used_mib=2048),
    host("n3", used_mib=4096),
    host("away", usable=False),
    host("full", used_mib=8000),
    host("other"),
    host("tcg"),
]
ABILITIES = {
    **{name: can() for name in ("n1", "n2", "n3", "away", "full")},
    "other": can(cpu_model="Skylake"),
    "tcg": can("qemu"),
}


def ask(wanted: str | None, hosts: list[Candidate] = HOSTS, policy: Policy = Policy.SPREAD) -> str:
    answer = target_for(
        SMALL, "n1", wanted, hosts=hosts, abilities=ABILITIES, overcommit=PLAIN, policy=policy
    )
    return answer.code if isinstance(answer, Problem) else answer


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        ("n2", "n2"),
        ("n3", "n3"),
        ("n1", "migration.same-host"),
        ("away", "host.unusable"),
        ("nowhere", "host.unusable"),
        ("full", "placement.no-capacity"),
        ("other", "migration.incompatible-host"),
        ("tcg", "migration.incompatible-host"),
        (None, "n2"),
    ],
)
def test_where_it_may_go(wanted: str | None, answer: str) -> None:
    assert ask(wanted) == answer


def test_the_policy_chooses_among_those_that_fit() -> None:
    assert ask(None, policy=Policy.PACK) == "n3"


def test_it_stays_in_its_cluster() -> None:
    here, there = UUID(int=1), UUID(int=2)
    hosts = [
        replace(host("n1"), cluster=here),
        replace(host("n2"), cluster=there),
        replace(host("n3", used_mib=4096), cluster=here),
    ]
    assert ask(None, hosts) == "n3"
    hosts[2] = replace(hosts[2], used_memory_mib=8000)
    assert ask(None, hosts) == "placement.no-capacity"
    assert ask("n2", hosts) == OTHER_CLUSTER


def test_why_there_is_nowhere() -> None:
    assert ask(None, [host("n1"), host("away", usable=False)]) == "placement.no-host"
    assert ask(None, [host("n1"), host("other"), host("tcg")]) == "migration.incompatible-host"
    assert ask(None, [host("n1"), host("full", used_mib=8000)]) == "placement.no-capacity"
    small = host("n2", memory_mib=512)
    assert ask(None, [host("n1"), small]) == "placement.no-capacity", "its spec is no mistake"


def test_an_emulated_processor_is_the_same_everywhere() -> None:
    abilities = {"n1": can("qemu", "EPYC"), "n2": can("qemu", "Skylake")}
    answer = target_for(SMALL, "n1", "n2", hosts=HOSTS, abilities=abilities, overcommit=PLAIN)
    assert answer == "n2"
