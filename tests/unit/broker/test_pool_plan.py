"""The plan of a pool: single situations, rules that always hold, and a whole life simulated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost_broker.phase import Phase
from roost_broker.pool_plan import (
    CREATED_AT_ONCE,
    Action,
    AskAgain,
    Create,
    Delete,
    Member,
    Reimage,
    Start,
    Wish,
    backoff,
    plan,
)
from roost_common.contracts.desktop import DesktopState

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
LATE = timedelta(minutes=5)


def wish(**more: object) -> Wish:
    return replace(Wish("win", min=0, max=10, spare=2, shrink_after=LATE), **more)  # type: ignore[arg-type]


def member(number: int, phase: Phase, /, **more: object) -> Member:
    state = DesktopState.RUNNING if phase in (Phase.FREE, Phase.ASSIGNED) else DesktopState.STARTING
    made = Member(number, f"win-{number}", phase, since=NOW, state=state, commanded_at=NOW, tries=1)
    return replace(made, **more)  # type: ignore[arg-type]


def free(*numbers: int, **more: object) -> list[Member]:
    return [member(number, Phase.FREE, **more) for number in numbers]


def test_a_desktop_whose_own_trouble_lasts_gets_a_fresh_disk() -> None:
    broken = member(1, Phase.TROUBLED, problem="desktop.disk-missing", commanded_at=LONG_AGO)
    young, old = replace(broken, since=NOW), replace(broken, since=LONG_AGO)
    assert Reimage(1, 2) not in plan(wish(spare=0), [young], 0, NOW)
    assert Reimage(1, 2) in plan(wish(spare=1), [old], 0, NOW)
    for elsewhere in ("placement.no-capacity", "host.unreachable"):
        other = replace(old, problem=elsewhere)
        assert Reimage(1, 2) not in plan(wish(spare=1), [other], 0, NOW)


def test_what_has_not_come_for_long_is_asked_for_whatever_is_known_of_it() -> None:
    for state in (DesktopState.STARTING, DesktopState.UNKNOWN, DesktopState.RUNNING):
        phase = Phase.TROUBLED if state is DesktopState.UNKNOWN else Phase.COMING
        one = member(1, phase, state=state, commanded_at=LONG_AGO, problem="host.unreachable")
        assert Start(1) not in plan(wish(spare=1), [one], 0, NOW)
        old = replace(one, since=LONG_AGO)
        assert Start(1) in plan(wish(spare=1), [old], 0, NOW)
        assert Start(1) not in plan(wish(spare=1), [replace(old, commanded_at=NOW)], 0, NOW)


def test_an_empty_pool_gets_its_spare() -> None:
    assert plan(wish(), [], 0, NOW) == [Create("win-1"), Create("win-2")]


def test_what_is_coming_counts() -> None:
    members = [member(1, Phase.COMING), *free(2)]
    assert plan(wish(), members, 0, NOW) == []


def test_one_more_for_each_who_waits() -> None:
    assert plan(wish(), free(1, 2), 3, NOW) == [Create(f"win-{n}") for n in (3, 4, 5)]


def test_never_above_max_even_while_some_leave() -> None:
    members = [*free(1), *[member(n, Phase.LEAVING) for n in range(2, 10)]]
    assert plan(wish(), members, 20, NOW) == [Create("win-10")]


def test_min_without_spare() -> None:
    assert plan(wish(min=2, spare=0), [member(1, Phase.ASSIGNED)], 0, NOW) == [Create("win-2")]


def test_the_smallest_free_number_is_taken_and_refused_names_are_not() -> None:
    refused = member(1, Phase.REFUSED, problem="desktop.name-taken", state=None)
    assert plan(wish(), [refused, *free(3)], 0, NOW) == [Create("win-2")]


def test_a_large_pool_is_filled_in_portions() -> None:
    actions = plan(wish(min=1000, max=1000), [], 0, NOW)
    assert len(actions) == CREATED_AT_ONCE


def test_too_many_are_taken_away_after_a_while_only() -> None:
    members = free(1, 2, 3, 4)
    assert plan(wish(), members, 0, NOW) == []
    assert plan(wish(), members, 0, NOW + LATE) == [Delete(4), Delete(3)]
    assert plan(wish(), members, 1, NOW + LATE) == [Delete(4)]
    assert plan(wish(min=4), members, 0, NOW + LATE) == []


def test_above_max_they_go_at_once_but_not_from_under_a_user() -> None:
    members = [*free(1, 2), member(3, Phase.ASSIGNED)]
    assert plan(wish(max=2, spare=1), members, 0, NOW) == [Delete(2)]
    members = [member(n, Phase.ASSIGNED) for n in (1, 2, 3)]
    assert plan(wish(max=2, spare=1), members, 0, NOW) == []


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({"state": None}, AskAgain(1)),
        ({"wanted_generation": 3, "disk_generation": 2}, Reimage(1, 3)),
        ({"state": DesktopState.STOPPED}, Start(1)),
        ({"state": DesktopState.STARTING}, None),
        ({"phase": Phase.LEAVING}, Delete(1)),
    ],
)
def test_what_did_not_happen_is_asked_for_again_ever_more_slowly(
    changes: dict[str, object], action: Action | None
) -> None:
    one = member(1, Phase.COMING, **changes)
    pool = wish(spare=1 if one.phase is Phase.COMING else 0)
    for tries in (1, 2, 5):
        again = replace(one, tries=tries)
        just_before = NOW + backoff(tries) - timedelta(milliseconds=1)
        assert plan(pool, [again], 0, just_before) == []
        assert plan(pool, [again], 0, NOW + backoff(tries)) == ([action] if action else [])


def test_trouble_that_all_would_have_is_not_multiplied() -> None:
    members = [member(1, Phase.TROUBLED, problem="placement.no-capacity")]
    assert plan(wish(), members, 5, NOW) == []


def test_one_desktops_own_trouble_is_made_good_by_another_after_a_while() -> None:
    members = [member(1, Phase.TROUBLED, problem="hypervisor.refused")]
    assert plan(wish(spare=1), members, 0, NOW) == []
    later = NOW + backoff(1)
    assert plan(wish(spare=1), members, 0, later) == [Create("win-2")]
    # ... and goes when the other one is there.
    members = [replace(members[0], since=LONG_AGO), *free(2)]
    assert plan(wish(spare=1), members, 0, NOW) == [Delete(1)]


def test_desktops_on_a_silent_host_are_made_good_at_once() -> None:
    members = [member(1, Phase.TROUBLED, problem="host.unreachable", state=DesktopState.UNKNOWN)]
    assert plan(wish(spare=1), members, 0, NOW) == [Create("win-2")]


def test_a_serious_refusal_is_not_repeated_in_a_hurry() -> None:
    refused = member(1, Phase.REFUSED, problem="placement.spec-beyond-hosts", state=None)
    assert plan(wish(spare=1), [refused], 0, NOW) == []
    assert plan(wish(spare=1), [refused], 0, NOW + backoff(1)) == [Create("win-2")]


def test_a_new_template_a_few_at_a_time() -> None:
    members = free(1, 2, 3, 4, template_current=False)
    assert plan(wish(spare=4), members, 0, NOW) == [Reimage(1, 2)]
    busy = [*members[1:], member(1, Phase.COMING, wanted_generation=2, disk_generation=2)]
    assert plan(wish(spare=4), busy, 0, NOW) == []


def test_the_last_free_one_is_replaced_after_another_is_there() -> None:
    (old,) = free(1, template_current=False)
    assert plan(wish(spare=1), [old], 0, NOW) == [Create("win-2")]
    assert plan(wish(spare=1), [old, *free(2)], 0, NOW) == [Reimage(1, 2)]
    # A full pool has no room for another one.
    assert plan(wish(spare=1, max=1), [old], 0, NOW) == [Reimage(1, 2)]


def test_new_hardware_is_a_new_desktop() -> None:
    old = free(1, 2, spec_current=False)
    assert plan(wish(), old, 0, NOW) == [Delete(1)]
    resetting = member(1, Phase.COMING, spec_current=False, wanted_generation=2, disk_generation=1)
    assert Delete(1) in plan(wish(), [resetting], 0, NOW)


def test_hardware_that_does_not_fit_is_replaced_without_waiting() -> None:
    stuck = member(
        1,
        Phase.TROUBLED,
        problem="placement.no-capacity",
        spec_current=False,
        commanded_at=LONG_AGO,
    )
    assert plan(wish(spare=1), [stuck], 0, NOW) == [Delete(1)]


def test_users_are_left_alone() -> None:
    used = [member(n, Phase.ASSIGNED, template_current=False, spec_current=False) for n in (1, 2)]
    assert plan(wish(spare=0), used, 0, NOW + LATE) == []


def test_without_a_template_nothing_is_made_or_replaced() -> None:
    members = free(1, template_current=False)
    assert plan(wish(makeable=False), members, 5, NOW) == []


def test_a_deleted_pool_empties() -> None:
    members = [
        *free(1),
        member(2, Phase.ASSIGNED),
        member(3, Phase.LEAVING),
        member(4, Phase.LEAVING, commanded_at=LONG_AGO),
        member(5, Phase.REFUSED),
    ]
    assert plan(wish(deleting=True), members, 5, NOW) == [Delete(1), Delete(2), Delete(4)]


# --- what always holds --------------------------------------------------------------------------

phases = st.sampled_from(Phase)
states = st.sampled_from([None, *DesktopState])
times = st.integers(0, 7200).map(lambda seconds: NOW - timedelta(seconds=seconds))


@st.composite
def pools(draw: st.DrawFn) -> tuple[Wish, list[Member]]:
    most = draw(st.integers(1, 12))
    pool = wish(
        max=most,
        min=draw(st.integers(0, most)),
        spare=draw(st.integers(0, most)),
        makeable=draw(st.booleans()),
        deleting=draw(st.booleans()),
    )
    numbers = draw(st.lists(st.integers(1, 20), unique=True, max_size=14))
    members = []
    for number in numbers:
        phase = draw(phases)
        troubled = phase in (Phase.TROUBLED, Phase.REFUSED)
        codes = ["placement.no-capacity", "host.unreachable", "desktop.name-taken", "x.y"]
        members.append(
            Member(
                number,
                f"win-{number}",
                phase,
                draw(times),
                state=draw(states),
                disk_generation=draw(st.integers(1, 3)),
                wanted_generation=draw(st.integers(1, 3)),
                template_current=draw(st.booleans()),
                spec_current=draw(st.booleans()),
                problem=draw(st.sampled_from(codes)) if troubled else "",
                commanded_at=draw(times),
                tries=draw(st.integers(0, 9)),
            )
        )
    return pool, members


@given(pools(), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_rules(given_pool: tuple[Wish, list[Member]], waiting: int) -> None:
    pool, members = given_pool
    actions = plan(pool, members, waiting, NOW)
    by_id = {one.id: one for one in members}
    aimed = [action.id for action in actions if not isinstance(action, Create)]
    assert len(aimed) == len(set(aimed)), "one command for one desktop"
    created = [action.name for action in actions if isinstance(action, Create)]
    existing = sum(one.phase is not Phase.REFUSED for one in members)
    assert not created or existing + len(created) <= pool.max
    assert not {one.name for one in members} & set(created)
    assert len(created) == len(set(created))
    assert not created or (pool.makeable and not pool.deleting)
    for action in actions:
        if isinstance(action, Create):
            continue
        target = by_id[action.id]
        assert target.phase is not Phase.REFUSED
        if not pool.deleting:
            assert target.phase is not Phase.ASSIGNED, "nobody loses a desktop to a plan"
        if isinstance(action, Reimage):
            assert action.generation > target.disk_generation
    if not pool.deleting:
        standing = [one for one in members if one.phase not in (Phase.LEAVING, Phase.REFUSED)]
        gone = [one for one in standing if Delete(one.id) in actions and one.spec_current]
        fewest = min(pool.min, len(standing))
        assert len(standing) - len(gone) >= fewest, "never fewer than min but to replace them"


# --- a life, simulated ---------------------------------------------------------------------------


@dataclass
class World:
    """Inventory that does what it is told after some seconds, and users who come and go."""

    pool: Wish
    now: datetime = NOW
    members: dict[str, Member] = field(default_factory=dict)
    due: list[tuple[datetime, str]] = field(default_factory=list)
    most: int = 0
    takes_s: int = 7

    def step(self, waiting: int = 0, seconds: int = 1) -> list[Action]:
        self.now += timedelta(seconds=seconds)
        for at, name in list(self.due):
            if at <= self.now:
                self.due.remove((at, name))
                self._arrive(name)
        actions = plan(self.pool, list(self.members.values()), waiting, self.now)
        for action in actions:
            self._do(action)
        self.most = max(self.most, len(self.members))
        return actions

    def _arrive(self, name: str) -> None:
        one = self.members.get(name)
        if one is None:
            return
        if one.phase is Phase.LEAVING:
            del self.members[name]
        elif one.phase is Phase.COMING:
            self.members[name] = replace(
                one,
                phase=Phase.FREE,
                since=self.now,
                state=DesktopState.RUNNING,
                disk_generation=one.wanted_generation,
                tries=0,
            )

    def _do(self, action: Action) -> None:
        if isinstance(action, Create):
            self.members[action.name] = Member(
                action.name, action.name, Phase.COMING, self.now, commanded_at=self.now, tries=1
            )
            name = action.name
        else:
            name = str(action.id)
            one = self.members[name]
            phase = Phase.LEAVING if isinstance(action, Delete) else Phase.COMING
            changes: dict[str, object] = {"phase": phase, "since": self.now}
            if isinstance(action, Reimage):
                changes |= {"wanted_generation": action.generation, "template_current": True}
            self.members[name] = replace(
                one,
                commanded_at=self.now,
                tries=one.tries + 1,
                **changes,  # type: ignore[arg-type]
            )
        self.due.append((self.now + timedelta(seconds=self.takes_s), name))

    def count(self, phase: Phase) -> int:
        return sum(one.phase is phase for one in self.members.values())

    def outdate(self, **changes: object) -> None:
        self.members = {
            name: replace(one, **changes)  # type: ignore[arg-type]
            for name, one in self.members.items()
        }

    def log_on(self) -> bool:
        for name, one in self.members.items():
            if one.phase is Phase.FREE:
                self.members[name] = replace(one, phase=Phase.ASSIGNED, since=self.now)
                return True
        return False

    def log_off(self) -> None:
        for name, one in self.members.items():
            if one.phase is Phase.ASSIGNED:
                self.members[name] = replace(
                    one,
                    phase=Phase.COMING,
                    since=self.now,
                    wanted_generation=one.disk_generation + 1,
                    commanded_at=self.now,
                    tries=1,
                )
                self.due.append((self.now + timedelta(seconds=self.takes_s), name))
                return

    def quiet(self, seconds: int) -> bool:
        """Whether nothing is left to do by then."""
        for _ in range(0, seconds, 5):
            self.step(seconds=5)
        return not self.due and not self.step()


@given(
    most=st.integers(1, 8),
    least=st.integers(0, 8),
    spare=st.integers(0, 8),
    events=st.lists(
        st.sampled_from(["on", "off", "wait", "template", "spec", "larger", "smaller"]),
        max_size=25,
    ),
    takes_s=st.integers(1, 20),
)
@settings(max_examples=30, deadline=None)
def test_it_comes_to_rest_as_it_should_be(
    most: int, least: int, spare: int, events: list[str], takes_s: int
) -> None:
    pool = wish(
        max=most, min=min(least, most), spare=min(spare, most), shrink_after=timedelta(seconds=30)
    )
    world = World(pool, takes_s=takes_s)
    waiting = 0
    for event in events:
        if event == "on":
            waiting += not world.log_on()
        elif event == "off":
            world.log_off()
        elif event == "template":
            world.outdate(template_current=False)
        elif event == "spec":
            world.outdate(spec_current=False)
        elif event == "larger":
            world.pool = replace(world.pool, max=world.pool.max + 1)
        elif event == "smaller" and world.pool.max > max(world.pool.min, world.pool.spare, 1):
            world.pool = replace(world.pool, max=world.pool.max - 1)
        for _ in range(3):
            world.step(waiting)
        if waiting and world.log_on():
            waiting -= 1
    assert world.quiet(1200), "it comes to rest"
    assert world.most <= max(most, world.pool.max) + events.count("larger")
    used = world.count(Phase.ASSIGNED)
    final = world.pool
    wanted = min(max(final.spare + used, final.min), max(final.max, used))
    assert world.count(Phase.FREE) + used == wanted
    for one in world.members.values():
        if one.phase is Phase.FREE:
            assert one.template_current
            assert one.spec_current
