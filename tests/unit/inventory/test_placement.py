"""Placement: who may carry a desktop, who of them does, and what is said when nobody can."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.base import Problem
from roost_common.contracts.host import GuestSize
from roost_common.contracts.spec import DesktopSpec
from roost_inventory.placement import (
    NO_CAPACITY,
    NO_HOST,
    SPEC_BEYOND_HOSTS,
    Candidate,
    Demand,
    Overcommit,
    Policy,
    beyond_all,
    choose,
    choose_all,
    largest_guests,
)

PLAIN = Overcommit(cpu_ratio=1, memory_ratio=1, memory_reserve_mib=0)
HOST = Candidate(name="a", usable=True, cpus=8, memory_mib=8192, max_vcpus=8)
BIG = Candidate(name="big", usable=True, cpus=96, memory_mib=1 << 20, max_vcpus=240)
ONE = Demand(vcpus=1, memory_mib=1024)


def answer(hosts: list[Candidate], demand: Demand = ONE, **facts: object) -> str:
    found = choose(hosts, demand, **{"overcommit": PLAIN, **facts})  # type: ignore[arg-type]
    return found.code if isinstance(found, Problem) else found.name


def test_sixteen_vcpus_and_64_gib_go_where_there_are_so_many() -> None:
    assert answer([HOST, BIG], Demand(vcpus=16, memory_mib=64 * 1024)) == "big"
    assert answer([HOST], Demand(vcpus=16, memory_mib=1024)) == SPEC_BEYOND_HOSTS
    assert answer([HOST], Demand(vcpus=1, memory_mib=64 * 1024)) == SPEC_BEYOND_HOSTS


def test_no_host_no_room_and_never_are_three_answers() -> None:
    away = replace(HOST, usable=False)
    full = replace(HOST, used_memory_mib=8192)
    assert answer([]) == NO_HOST
    assert answer([away]) == NO_HOST
    assert answer([away, full]) == NO_CAPACITY
    assert answer([replace(HOST, used_vcpus=8)]) == NO_CAPACITY
    assert answer([away], Demand(vcpus=99, memory_mib=1)) == SPEC_BEYOND_HOSTS
    assert answer([replace(BIG, usable=False), HOST], Demand(96, 1024)) == NO_CAPACITY


def test_a_host_without_spice_carries_no_desktop() -> None:
    assert answer([replace(HOST, spice=False)]) == SPEC_BEYOND_HOSTS
    assert answer([replace(HOST, spice=False), replace(HOST, name="b")]) == "b"


def test_a_guest_has_at_most_the_vcpus_its_host_can_give_one() -> None:
    assert answer([replace(HOST, cpus=64, max_vcpus=2)], Demand(3, 1)) == SPEC_BEYOND_HOSTS


@pytest.mark.parametrize(
    ("overcommit", "fits"),
    [
        (Overcommit(cpu_ratio=1, memory_ratio=1, memory_reserve_mib=0), True),
        (Overcommit(cpu_ratio=1, memory_ratio=1, memory_reserve_mib=1), False),
        (Overcommit(cpu_ratio=1, memory_ratio=1.5, memory_reserve_mib=1024), True),
        (Overcommit(cpu_ratio=0.5, memory_ratio=1, memory_reserve_mib=0), False),
        (Overcommit(cpu_ratio=1, memory_ratio=1, memory_reserve_mib=99999), False),
    ],
)
def test_the_last_gigabyte_by_the_policy(overcommit: Overcommit, fits: bool) -> None:
    host = replace(HOST, used_memory_mib=7168, used_vcpus=7)
    assert (answer([host], overcommit=overcommit) == "a") is fits


def test_spread_takes_the_emptiest_and_pack_the_fullest_that_fits() -> None:
    hosts = [
        replace(HOST, name="half", used_memory_mib=4096),
        replace(HOST, name="empty"),
        replace(HOST, name="full", used_memory_mib=8192),
    ]
    assert answer(hosts) == "empty"
    assert answer(hosts, policy=Policy.PACK) == "half"


def test_a_host_that_refused_it_comes_last_but_comes() -> None:
    shunning = replace(ONE, shunned="empty")
    hosts = [replace(HOST, name="half", used_memory_mib=4096), replace(HOST, name="empty")]
    assert answer(hosts, shunning) == "half"
    assert answer(hosts[1:], shunning) == "empty"


def test_beyond_all_says_nothing_while_no_host_is_known() -> None:
    huge = Demand(vcpus=1000, memory_mib=1)
    assert beyond_all([], huge, overcommit=PLAIN) is None
    refusal = beyond_all([HOST], huge, overcommit=PLAIN)
    assert refusal is not None
    assert refusal.code == SPEC_BEYOND_HOSTS
    assert beyond_all([replace(BIG, usable=False)], Demand(96, 1), overcommit=PLAIN) is None


candidates = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from([f"h{n}" for n in range(20)]),
        usable=st.booleans(),
        cpus=st.integers(1, 128),
        memory_mib=st.integers(1024, 1 << 20),
        max_vcpus=st.integers(1, 256),
        spice=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda host: host.name,
)
demands = st.lists(
    st.builds(Demand, vcpus=st.integers(1, 64), memory_mib=st.integers(64, 1 << 17)), max_size=40
)
overcommits = st.builds(
    Overcommit,
    cpu_ratio=st.floats(0.5, 16),
    memory_ratio=st.floats(0.5, 2),
    memory_reserve_mib=st.integers(0, 4096),
)


@given(candidates, demands, overcommits, st.sampled_from(Policy))
def test_no_host_ever_carries_more_than_the_policy_allows(
    hosts: list[Candidate], wanted: list[Demand], overcommit: Overcommit, policy: Policy
) -> None:
    answers = choose_all(hosts, wanted, overcommit=overcommit, policy=policy)
    for host in hosts:
        here = [d for d, a in zip(wanted, answers, strict=True) if a == host.name]
        assert host.usable or not here
        assert host.spice or not here
        assert sum(d.vcpus for d in here) <= max(0, host.cpus * overcommit.cpu_ratio)
        assert sum(d.memory_mib for d in here) <= host.memory_limit_mib(overcommit)
        assert all(d.vcpus <= host.max_vcpus for d in here)


@pytest.mark.long
@given(candidates, demands, overcommits, st.sampled_from(Policy))
def test_nobody_is_refused_while_there_is_room(
    hosts: list[Candidate], wanted: list[Demand], overcommit: Overcommit, policy: Policy
) -> None:
    by_name = {host.name: host for host in hosts}
    answers = choose_all(hosts, wanted, overcommit=overcommit, policy=policy)
    for demand, said in zip(wanted, answers, strict=True):
        if isinstance(said, Problem):
            assert not any(
                host.usable and host.has_room(demand, overcommit) for host in by_name.values()
            )
        else:
            by_name[said] = by_name[said].taking(demand)


@given(candidates, st.builds(Demand, vcpus=st.integers(1, 64), memory_mib=st.integers(64, 9999)))
def test_the_order_in_which_hosts_are_listed_does_not_matter(
    hosts: list[Candidate], demand: Demand
) -> None:
    assert choose(hosts, demand, overcommit=PLAIN) == choose(hosts[::-1], demand, overcommit=PLAIN)


SIZES = st.builds(
    Candidate,
    name=st.just("a"),
    usable=st.booleans(),
    cpus=st.integers(1, 12),
    memory_mib=st.integers(1, 12),
    max_vcpus=st.integers(1, 12),
    spice=st.booleans(),
)


@given(
    st.lists(SIZES, max_size=5),
    st.integers(1, 20),
    st.integers(64, 90),
    st.sampled_from([PLAIN, Overcommit(1.3, 1.5, 2), Overcommit(0.4, 8.0, 3)]),
)
def test_what_is_published_decides_as_placement_does(
    hosts: list[Candidate], vcpus: int, memory_mib: int, overcommit: Overcommit
) -> None:
    hosts = [replace(host, memory_mib=host.memory_mib * 8) for host in hosts]
    spec = DesktopSpec(vcpus=vcpus, memory_mib=memory_mib)
    largest = largest_guests(hosts, overcommit=overcommit)
    accepted = largest is None or any(size.carries(spec) for size in largest)
    demand = Demand(vcpus, memory_mib)
    assert accepted == (beyond_all(hosts, demand, overcommit=overcommit) is None)


def test_what_another_host_exceeds_is_not_published() -> None:
    wide = replace(HOST, name="wide", cpus=32, max_vcpus=32, memory_mib=4096)
    found = largest_guests([HOST, wide, replace(HOST, name="b")], overcommit=PLAIN)
    assert found == (
        GuestSize(vcpus=8, memory_mib=8192),
        GuestSize(vcpus=32, memory_mib=4096),
    )
    assert largest_guests([], overcommit=PLAIN) is None


def test_each_cluster_fills_its_hosts_after_its_own_fashion() -> None:
    packing, spreading = UUID(int=1), UUID(int=2)
    hosts = [
        replace(HOST, name="p1", cluster=packing, policy=Policy.PACK, used_vcpus=4),
        replace(HOST, name="p2", cluster=packing, policy=Policy.PACK),
        replace(HOST, name="s1", cluster=spreading, used_vcpus=3),
        replace(HOST, name="s2", cluster=spreading, used_vcpus=2),
    ]
    small = Demand(1, 64)
    assert choose_all(hosts, [small] * 3, overcommit=PLAIN) == ["s2", "s1", "s2"]
    assert choose_all(hosts[:2], [small] * 2, overcommit=PLAIN) == ["p1", "p1"]
    assert choose_all(hosts, [small], overcommit=PLAIN, policy=Policy.PACK) == ["p1"]
