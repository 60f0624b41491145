"""Scheduling policies: what they do, and that they come to an end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roost_inventory.balance import plan
from roost_inventory.draft import CALM
from roost_inventory.load import STALE, Sample, mean, with_sample
from roost_inventory.placement import Candidate, Demand, Overcommit
from roost_inventory.power_saving import EMPTYING_FOR, PACKED, REFUSED_FOR
from roost_inventory.scheduling import (
    ClusterPolicy,
    Guest,
    Load,
    Member,
    Migrate,
    Plan,
    PowerOff,
    PowerOn,
    Scheduling,
    Standing,
    View,
    Waiting,
)
from roost_inventory.waking import WAKE_REFUSED_FOR

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
PLAIN = Overcommit(cpu_ratio=10, memory_ratio=1, memory_reserve_mib=0)
EVEN = Scheduling(policy=ClusterPolicy.EVEN)
SAVING = Scheduling(policy=ClusterPolicy.POWER_SAVING, reserve_hosts=0, reserve_percent=0)


def guest(name: str, host: str, **facts: Any) -> Guest:
    """One vCPU, 1 GiB, all of it in use."""
    return Guest(
        **{
            "id": uuid5(NAMESPACE_OID, name),
            "name": name,
            "host": host,
            "vcpus": 1,
            "memory_mib": 1024,
            **facts,
        }
    )


def member(name: str, guests: list[Guest] | None = None, **facts: Any) -> Member:
    """A host of 8 processors and 32 GiB that was up for a day, as busy as its guests make it."""
    here = [one for one in guests or () if one.host == name]
    load = facts.pop("load", "of its guests")
    if load == "of its guests":
        load = Load(
            sum(one.cpu_percent * one.vcpus for one in here) / 8,
            100 * sum(one.copy_mib for one in here) / 32768,
            3600,
        )
    room = Candidate(
        name=name,
        usable=facts.get("standing", Standing.AWAKE) is Standing.AWAKE,
        cpus=8,
        memory_mib=32768,
        max_vcpus=64,
        used_vcpus=sum(one.vcpus for one in here),
        used_memory_mib=sum(one.memory_mib for one in here),
    )
    return Member(
        **{
            "room": room,
            "load": load,
            "domains": len(here),
            "awake_since": LONG_AGO,
            "empty_since": None if here else LONG_AGO,
            **facts,
        }
    )


def asleep(name: str, **facts: Any) -> Member:
    """A host that power saving switched off."""
    facts = {"put_to_sleep": True, "awake_since": None, **facts}
    return member(name, standing=Standing.ASLEEP, load=None, **facts)


def decide(
    scheduling: Scheduling,
    members: list[Member],
    guests: list[Guest] | None = None,
    waiting: list[Waiting] | None = None,
) -> Plan:
    return plan(
        View(
            scheduling=scheduling,
            overcommit=PLAIN,
            members=members,
            guests=guests or [],
            waiting=waiting or [],
        ),
        NOW,
    )


def moves(decided: Plan) -> list[tuple[str, str, str]]:
    return [
        (one.desktop, one.from_host, one.to_host)
        for one in decided.actions
        if isinstance(one, Migrate)
    ]


def switched(decided: Plan) -> list[tuple[type, str]]:
    return [(type(one), one.host) for one in decided.actions if not isinstance(one, Migrate)]


# --- even -------------------------------------------------------------------------------------

BUSY = [guest(f"busy{n}", "a", vcpus=2, cpu_percent=90.0) for n in range(4)]
"""90 % of host a."""


def test_a_desktop_moves_from_the_hot_host_to_the_coolest() -> None:
    guests = [*BUSY, guest("other", "b", vcpus=4, cpu_percent=60.0)]
    decided = decide(EVEN, [member(name, guests) for name in "abc"], guests)
    assert moves(decided) == [("busy0", "a", "c")]
    (move,) = decided.actions
    assert move.reason == (
        "a uses 90 % of its processors (80 % is hot), busy0 22 %; c has room for it. "
        "1024 MiB are copied."
    )


def test_of_those_whose_move_is_enough_the_one_with_the_least_memory_goes() -> None:
    guests = [
        guest("large", "a", vcpus=4, cpu_percent=100, memory_mib=8192),
        guest("small", "a", vcpus=3, cpu_percent=90, memory_mib=2048),
        guest("tiny", "a", vcpus=1, cpu_percent=50, memory_mib=512),
    ]
    assert moves(decide(EVEN, [member(name, guests) for name in "ab"], guests)) == [
        ("small", "a", "b")
    ]


def test_memory_makes_a_host_hot_too() -> None:
    guests = [guest(f"d{n}", "a", memory_mib=10240, memory_used_mib=10000) for n in range(3)]
    decided = decide(EVEN, [member(name, guests) for name in "ab"], guests)
    assert moves(decided) == [("d0", "a", "b")]
    assert "92 % of its memory (90 % is hot)" in decided.actions[0].reason


@pytest.mark.parametrize(
    "facts",
    [
        {"steady": False},
        {"moving_to": "b"},
        {"moved_at": NOW - timedelta(seconds=599)},
    ],
)
def test_these_desktops_are_left_alone(facts: dict[str, Any]) -> None:
    guests = [replace(one, **facts) for one in BUSY]
    decided = decide(EVEN, [member(name, guests) for name in "ab"], guests)
    assert decided.actions == ()
    rested = [replace(one, moved_at=NOW - timedelta(seconds=600)) for one in BUSY]
    assert moves(decide(EVEN, [member(name, rested) for name in "ab"], rested))


@pytest.mark.parametrize(
    ("hot", "cool"),
    [
        pytest.param({"load": Load(90, 10, 119)}, {}, id="hot for less than the duration"),
        pytest.param({"load": None}, {}, id="nothing known of the hot one"),
        pytest.param({}, {"load": None}, id="nothing known of the cool one"),
        pytest.param({}, {"standing": Standing.AWAY}, id="in maintenance"),
        pytest.param({}, {"standing": Standing.ASLEEP}, id="asleep"),
        pytest.param({}, {"kind": "another processor"}, id="another kind"),
        pytest.param({}, {"load": Load(62, 10, 600)}, id="the other would be hot next"),
    ],
)
def test_nothing_moves(hot: dict[str, Any], cool: dict[str, Any]) -> None:
    members = [member("a", BUSY, **hot), member("b", BUSY, **cool)]
    assert moves(decide(EVEN, members, BUSY)) == []
    assert moves(decide(EVEN, [member(name, BUSY) for name in "ab"], BUSY))


def test_a_move_that_costs_more_than_it_brings_is_not_made() -> None:
    light = [guest(f"light{n}", "a", cpu_percent=20.0) for n in range(4)]
    members = [member("a", light, load=Load(90, 10, 600)), member("b")]
    decided = decide(EVEN, members, light)
    assert moves(decided) == []
    assert decided.notes == ("a is hot, and no move helps or may begin now.",)


def test_not_more_at_once_than_allowed() -> None:
    guests = [guest(f"{h}{n:02}", h, cpu_percent=99) for h in "abc" for n in range(12)]
    members = [member(name, guests) for name in "abcdef"]
    per_host = decide(EVEN, members, guests)
    assert len(moves(per_host)) == 4
    hosts = [name for _, *pair in moves(per_host) for name in pair]
    assert max(hosts.count(name) for name in hosts) <= 2
    one = EVEN.model_copy(update={"migrations_per_cluster": 1})
    assert len(moves(decide(one, members, guests))) == 1
    under_way = [replace(one, moving_to="f") if one.name == "a00" else one for one in guests]
    assert (
        moves(decide(EVEN.model_copy(update={"migrations_per_cluster": 1}), members, under_way))
        == []
    )


def test_without_a_policy_nothing_moves() -> None:
    assert decide(Scheduling(), [member(name, BUSY) for name in "ab"], BUSY).actions == ()


# --- power saving -----------------------------------------------------------------------------


def idle(host: str, count: int, **facts: Any) -> list[Guest]:
    return [guest(f"{host}{n}", host, cpu_percent=5.0, **facts) for n in range(count)]


def test_an_underused_host_is_emptied_into_the_fullest() -> None:
    guests = [*idle("a", 2), *idle("b", 6), *idle("c", 4)]
    decided = decide(SAVING, [member(name, guests) for name in "abc"], guests)
    assert moves(decided) == [("a0", "a", "b"), ("a1", "a", "b")]
    assert all(one.empties for one in decided.actions if isinstance(one, Migrate))


def test_what_is_idle_goes_before_what_is_in_use() -> None:
    rules = SAVING.model_copy(update={"migrations_per_host": 1})
    guests = [
        *idle("b", 6),
        guest("used", "a", in_use=True),
        guest("busy", "a", cpu_percent=50),
        guest("calm", "a", cpu_percent=1, memory_used_mib=900),
    ]
    members = [member(name, guests) for name in "ab"]
    assert moves(decide(rules, members, guests)) == [("calm", "a", "b")]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"load": Load(21, 10, 600)}, id="not underused"),
        pytest.param({"load": Load(5, 51, 600)}, id="its memory is used"),
        pytest.param({"load": Load(5, 5, 100)}, id="not measured long enough"),
        pytest.param({"awake_since": NOW - timedelta(seconds=899)}, id="just woken"),
        pytest.param({"refused_at": NOW - timedelta(minutes=29)}, id="cannot be switched off"),
    ],
)
def test_these_hosts_are_not_emptied(facts: dict[str, Any]) -> None:
    guests = [*idle("a", 2), *idle("b", 6)]
    busy = member("b", guests, load=Load(30, 30, 600))
    left = decide(SAVING, [member("a", guests, **facts), busy], guests)
    assert moves(left) == []
    (why,) = left.notes
    assert why.startswith("No host is emptied: ")
    assert moves(decide(SAVING, [member("a", guests), busy], guests))


def test_emptying_goes_on_without_another_measurement() -> None:
    guests = [*idle("a", 2), *idle("b", 6)]
    begun = member("a", guests, load=Load(5, 5, 20), emptied_at=NOW - timedelta(seconds=30))
    busy = member("b", guests, load=Load(30, 30, 20))
    assert moves(decide(SAVING, [begun, busy], guests))
    late = replace(begun, emptied_at=NOW - EMPTYING_FOR)
    assert moves(decide(SAVING, [late, busy], guests)) == []


def test_a_host_that_cannot_be_emptied_whole_is_left_alone() -> None:
    guests = [*idle("a", 3), *idle("b", 6)]
    guests[0] = replace(guests[0], steady=False)
    busy = member("b", guests, load=Load(30, 30, 600))
    decided = decide(SAVING, [member("a", guests), busy], guests)
    assert decided.actions == ()
    assert decided.notes == ("a is not emptied: a0 cannot be moved now.",)
    guests = [*idle("a", 3, memory_mib=4096), *idle("b", 8, memory_mib=3072)]
    members = [
        member("a", guests, load=Load(5, 5, 600)),
        member("b", guests, load=Load(30, 30, 600)),
    ]
    decided = decide(SAVING, members, guests)
    assert decided.actions == ()
    assert decided.notes == ("a is not emptied: no other host in use can take a2.",)


def test_nothing_is_moved_onto_an_empty_host_to_empty_another() -> None:
    guests = idle("a", 2)
    woken = member("b", awake_since=NOW)
    assert decide(SAVING, [member("a", guests), woken], guests).actions == ()


def test_a_hot_host_comes_before_saving() -> None:
    guests = [*BUSY, *idle("b", 2)]
    decided = decide(SAVING, [member(name, guests) for name in "abc"], guests)
    assert moves(decided) == [("busy0", "a", "b")]
    assert switched(decided) == []


def test_an_empty_host_is_switched_off_one_at_a_time() -> None:
    guests = idle("a", 2)
    members = [member(name, guests) for name in "abcd"]
    decided = decide(SAVING, members, guests)
    assert switched(decided) == [(PowerOff, "d")]
    assert decided.actions[0].reason == "d carries nothing; the others have room and the reserve."


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"domains": 1}, id="a domain nobody ordered"),
        pytest.param({"domains": None}, id="libvirt does not answer"),
        pytest.param({"empty_since": NOW - timedelta(seconds=119)}, id="empty for a moment"),
        pytest.param({"empty_since": None}, id="not known since when"),
        pytest.param({"awake_since": NOW - timedelta(seconds=899)}, id="just woken"),
        pytest.param({"refused_at": NOW - timedelta(minutes=29)}, id="refused lately"),
        pytest.param({"load": None}, id="no recent report"),
        pytest.param({"standing": Standing.AWAY}, id="in maintenance"),
        pytest.param({"standing": Standing.AWAY, "trouble": True}, id="in trouble"),
    ],
)
def test_these_hosts_are_not_switched_off(facts: dict[str, Any]) -> None:
    guests = idle("a", 2)
    assert switched(decide(SAVING, [member("a", guests), member("b", **facts)], guests)) == []
    assert switched(decide(SAVING, [member("a", guests), member("b")], guests))


def test_a_host_to_which_a_desktop_is_on_its_way_stays() -> None:
    guests = [replace(idle("a", 1)[0], moving_to="b")]
    assert decide(SAVING, [member("a", guests), member("b")], guests).actions == ()


def test_nothing_is_taken_away_while_a_host_is_in_trouble_or_being_woken() -> None:
    guests = [*idle("a", 2), *idle("b", 6)]
    members = [member(name, guests) for name in "abc"]
    assert decide(SAVING, members, guests).actions
    for other in (
        member("x", standing=Standing.AWAY, trouble=True),
        member("x", standing=Standing.WAKING, load=None),
    ):
        assert decide(SAVING, [*members, other], guests).actions == ()


def test_the_last_host_stays_awake() -> None:
    assert decide(SAVING, [member("a"), asleep("b")]).actions == ()
    assert switched(decide(SAVING, [member("a"), member("b")])) == [(PowerOff, "b")]


def test_the_reserve_stays_awake_and_is_woken() -> None:
    rules = SAVING.model_copy(update={"reserve_hosts": 1})
    guests = idle("a", 2)
    members = [member("a", guests), member("b", guests), asleep("c")]
    assert decide(rules, members, guests).actions == ()
    full = [*guests, *idle("b", 1)]
    decided = decide(rules, [member(name, full) for name in "ab"] + [asleep("c")], full)
    assert switched(decided) == [(PowerOn, "c")]
    assert decided.actions[0].reason == (
        "0 hosts without a desktop are awake, and 1 ought to. Room is woken before it is needed."
    )


def test_room_is_woken_before_it_is_used_up() -> None:
    rules = SAVING.model_copy(update={"reserve_percent": 20})
    low = idle("a", 8, memory_mib=3072)  # 75 % promised
    assert switched(decide(rules, [member("a", low), asleep("b")], low)) == []
    high = idle("a", 9, memory_mib=3072)
    assert switched(decide(rules, [member("a", high), asleep("b")], high)) == [(PowerOn, "b")]


def test_hosts_are_woken_for_desktops_that_wait() -> None:
    guests = idle("a", 10, memory_mib=3072, memory_used_mib=500)
    waits = [Waiting(f"w{n}", Demand(1, 16384)) for n in range(3)]
    members = [member("a", guests), *(asleep(name) for name in "bcd")]
    for rules in (SAVING, EVEN, Scheduling()):
        kept = [replace(one, put_to_sleep=False) for one in members]
        decided = decide(rules, kept, guests, waits)
        assert switched(decided) == [(PowerOn, "b"), (PowerOn, "c")]
        assert decided.actions[0].reason == "Desktops wait for room, among them w0."
    coming = [member("a", guests), member("b", standing=Standing.WAKING, load=None), asleep("c")]
    assert switched(decide(SAVING, coming, guests, waits[:2])) == []
    huge = [Waiting("w", Demand(1, 1 << 20))]
    decided = decide(SAVING, [*members, member("e")], guests, huge)
    assert (decided.actions, decided.unserved) == ((), tuple(huge))


def test_a_host_that_could_not_be_woken_is_tried_again_later() -> None:
    waits = [Waiting("w", Demand(1, 1024))]
    refused = asleep("b", refused_at=NOW - timedelta(minutes=1))
    assert switched(decide(SAVING, [refused, asleep("c")], [], waits)) == [(PowerOn, "c")]
    later = replace(refused, refused_at=NOW - WAKE_REFUSED_FOR)
    assert switched(decide(SAVING, [later, asleep("c")], [], waits)) == [(PowerOn, "b")]


def test_a_host_is_woken_to_relieve_a_hot_one() -> None:
    decided = decide(SAVING, [member("a", BUSY), asleep("b"), asleep("c")], BUSY)
    assert switched(decided) == [(PowerOn, "b")]
    assert decided.actions[0].reason == "a is hot, and no host that is awake can take from it."
    # Not once more while nothing is known yet of the one that has just come.
    fresh = member("b", load=None, awake_since=NOW)
    assert decide(SAVING, [member("a", BUSY), fresh, asleep("c")], BUSY).actions == ()


def test_the_end_of_power_saving_wakes_what_it_put_to_sleep_and_nothing_else() -> None:
    by_hand = asleep("c", put_to_sleep=False)
    for rules in (EVEN, Scheduling()):
        decided = decide(rules, [member("a"), asleep("b"), by_hand])
        assert switched(decided) == [(PowerOn, "b")]


# --- parameters and loads ---------------------------------------------------------------------


def test_parameters_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError):
        Scheduling(memory_low_percent=80, memory_high_percent=80)


def test_the_mean_is_of_the_duration_and_of_what_came_after_the_last_move() -> None:
    samples: tuple[Sample, ...] = ()
    for n in range(20):
        at = NOW - timedelta(seconds=30 * (19 - n))
        samples = with_sample(samples, Sample(at, 100.0 if n < 15 else 50.0, 10.0), 120)
    assert mean(samples, NOW, 120, None) == Load(50.0, 10.0, 120.0)
    later = NOW + timedelta(seconds=10)
    assert mean(samples, later, 120, None) == Load(50.0, 10.0, 130.0)
    assert mean(samples, NOW, 120, NOW - timedelta(seconds=60)) == Load(50.0, 10.0, 30.0)
    assert mean(samples, NOW, 120, NOW) is None
    assert mean(samples, NOW + STALE, 120, None) is not None
    assert mean(samples, NOW + STALE + timedelta(seconds=1), 120, None) is None


def test_few_samples_are_kept_however_often_a_node_reports() -> None:
    samples: tuple[Sample, ...] = ()
    for n in range(2000):
        samples = with_sample(samples, Sample(NOW + timedelta(seconds=n), 10, 10), 120)
    assert len(samples) <= 30
    load = mean(samples, NOW + timedelta(seconds=1999), 120, None)
    assert load is not None
    assert load.measured_s >= 120


# --- any cluster ------------------------------------------------------------------------------


@dataclass
class World:
    """A cluster under constant load, in which every order is carried out at once."""

    scheduling: Scheduling
    hosts: dict[str, tuple[int, int]]
    guests: dict[str, Guest]
    off: set[str] = field(default_factory=set)
    now: datetime = NOW
    emptied: dict[str, datetime] = field(default_factory=dict)

    def view(self) -> View:
        return View(
            scheduling=self.scheduling,
            overcommit=PLAIN,
            members=[self._member(name) for name in self.hosts],
            guests=list(self.guests.values()),
        )

    def _member(self, name: str) -> Member:
        cpus, memory = self.hosts[name]
        here = [one for one in self.guests.values() if one.host == name]
        cpu = sum(one.cpu_percent * one.vcpus for one in here) / cpus
        return Member(
            room=Candidate(
                name=name,
                usable=name not in self.off,
                cpus=cpus,
                memory_mib=memory,
                max_vcpus=64,
                used_vcpus=sum(one.vcpus for one in here),
                used_memory_mib=sum(one.memory_mib for one in here),
            ),
            standing=Standing.ASLEEP if name in self.off else Standing.AWAKE,
            load=None
            if name in self.off
            else Load(cpu, 100 * sum(one.copy_mib for one in here) / memory, 1e6),
            domains=len(here),
            put_to_sleep=name in self.off,
            awake_since=LONG_AGO,
            empty_since=LONG_AGO,
            emptied_at=self.emptied.get(name),
        )

    def pressures(self) -> dict[str, float]:
        rules = self.scheduling
        return {
            name: max(
                load.cpu_percent / rules.cpu_high_percent,
                load.memory_percent / rules.memory_high_percent,
            )
            for name in self.hosts
            if (load := self._member(name).load) is not None
        }

    def step(self) -> bool:
        """Do what the plan says, and check each action; False when there is nothing to do."""
        decided = plan(self.view(), self.now)
        before = self.pressures()
        under_way: list[str] = []
        for action in decided.actions:
            if isinstance(action, PowerOn):
                assert action.host in self.off
                self.off.remove(action.host)
            elif isinstance(action, PowerOff):
                assert not any(one.host == action.host for one in self.guests.values())
                self.off.add(action.host)
                assert self.off < set(self.hosts), "the last host was switched off"
                self._check_reserve()
            else:
                under_way += [action.from_host, action.to_host]
                self._move(action)
        assert len(under_way) <= 2 * self.scheduling.migrations_per_cluster
        for name in under_way:
            assert under_way.count(name) <= self.scheduling.migrations_per_host
        for name, after in self.pressures().items():
            assert after <= max(before.get(name, 0), CALM) + 1e-9, "a move made a host hot"
        self.now += timedelta(minutes=1)
        return bool(decided.actions)

    def _move(self, action: Migrate) -> None:
        guest = self.guests[action.desktop]
        assert guest.host == action.from_host != action.to_host
        assert action.to_host not in self.off
        room = self._member(action.to_host).room
        assert room.has_room(guest.demand, PLAIN), "more was promised than there is"
        self.guests[guest.name] = replace(guest, host=action.to_host)
        if action.empties:
            self.emptied[action.from_host] = self.now
            assert self.pressures()[action.to_host] <= PACKED + 1e-9

    def _check_reserve(self) -> None:
        rooms = [self._member(name).room for name in self.hosts if name not in self.off]
        rules = self.scheduling
        assert sum(room.used_memory_mib == 0 for room in rooms) >= rules.reserve_hosts
        for used, limit in (
            (sum(r.used_vcpus for r in rooms), sum(r.vcpu_limit(PLAIN) for r in rooms)),
            (sum(r.used_memory_mib for r in rooms), sum(r.memory_limit_mib(PLAIN) for r in rooms)),
        ):
            assert 100 * (1 - used / limit) >= rules.reserve_percent


@st.composite
def worlds(draw: st.DrawFn) -> World:
    hosts = {
        f"h{n}": (draw(st.integers(4, 16)), 1024 * draw(st.integers(8, 64)))
        for n in range(draw(st.integers(1, 6)))
    }
    rules = Scheduling(
        policy=draw(st.sampled_from([ClusterPolicy.EVEN, ClusterPolicy.POWER_SAVING])),
        rest_s=0,
        awake_s=0,
        reserve_hosts=draw(st.integers(0, 2)),
        reserve_percent=draw(st.integers(0, 60)),
        migrations_per_host=draw(st.integers(1, 4)),
        migrations_per_cluster=draw(st.integers(1, 6)),
    )
    world = World(rules, hosts, {})
    for n in range(draw(st.integers(0, 14))):
        one = guest(
            f"d{n:02}",
            draw(st.sampled_from(sorted(hosts))),
            vcpus=draw(st.integers(1, 4)),
            memory_mib=1024 * draw(st.integers(1, 12)),
            cpu_percent=draw(st.sampled_from([0.0, 5.0, 40.0, 100.0])),
        )
        if world._member(one.host).room.has_room(one.demand, PLAIN):
            world.guests[one.name] = one
    return world


@pytest.mark.long
@given(worlds())
def test_under_constant_load_every_policy_comes_to_rest(world: World) -> None:
    steps = 0
    while world.step():
        steps += 1
        assert steps < 200, "it goes on for ever"


@given(worlds())
def test_what_is_listed_in_another_order_is_decided_the_same(world: World) -> None:
    view = world.view()
    turned = replace(view, members=view.members[::-1], guests=view.guests[::-1])
    assert plan(turned, NOW) == plan(view, NOW)


def test_a_host_that_was_refused_may_be_switched_off_later() -> None:
    guests = idle("a", 2)
    later = member("b", refused_at=NOW - REFUSED_FOR)
    assert switched(decide(SAVING, [member("a", guests), later], guests)) == [(PowerOff, "b")]
