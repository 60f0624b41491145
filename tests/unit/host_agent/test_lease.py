"""The node's own lease: its states, and what it may never believe."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost_common.contracts.host import LeaseGranted
from roost_host_agent.lease import (
    BEATS_KEPT,
    GRANT_FRESH_S,
    HOLD_S,
    QUIET_S,
    REJOIN_S,
    Lease,
    Peers,
    Verdict,
)

RUN = UUID(int=1)
WITNESS = UUID(int=7)
LEASE_S = 45.0


def grant(sequence: int, *, armed: bool = True, agent_id: UUID = RUN) -> LeaseGranted:
    return LeaseGranted(node="node-a", agent_id=agent_id, sequence=sequence, armed=armed)


def peers(at: float, *, granted: bool, witness: UUID = WITNESS) -> Peers:
    return Peers(at=at, granted=granted, witness=witness)


def held(*, armed: bool = True, witness: UUID | None = WITNESS) -> Lease:
    """A lease whose first beat left at 100, granted at 101."""
    lease = Lease(RUN, LEASE_S)
    lease.sent(1, 100, armed=False, witness=witness)
    assert lease.granted(grant(1, armed=armed), 101)
    return lease


def test_a_grant_counts_from_when_its_beat_was_sent() -> None:
    lease = held()
    assert (lease.armed, lease.until) == (True, 145)
    assert lease.step(144.9, None) is Verdict.HOLD
    assert lease.step(145, None) is Verdict.EXPIRED
    assert lease.over


def test_the_end_is_for_good() -> None:
    lease = held()
    lease.sent(2, 144, armed=True, witness=WITNESS)
    assert not lease.granted(grant(2), 145)
    assert lease.step(144, peers(144, granted=False)) is Verdict.EXPIRED


def test_an_agent_that_was_frozen_takes_no_grant_that_waited_for_it() -> None:
    lease = held()
    lease.sent(2, 144.5, armed=True, witness=WITNESS)
    assert not lease.granted(grant(2), 200)
    assert lease.over


@pytest.mark.parametrize(
    "wrong", [grant(2, agent_id=uuid4()), grant(0), grant(9)], ids=["run", "older", "unsent"]
)
def test_what_is_no_grant(wrong: LeaseGranted) -> None:
    lease = held()
    lease.sent(2, 110, armed=True, witness=WITNESS)
    assert not lease.granted(wrong, 111)
    assert lease.until == 145


def test_a_grant_so_late_that_it_would_end_at_once_is_none() -> None:
    lease = Lease(RUN, LEASE_S)
    lease.sent(1, 100, armed=False, witness=None)
    assert not lease.granted(grant(1), 145)
    assert (lease.armed, lease.over, lease.until) == (False, False, None)


def test_an_older_grant_does_not_shorten() -> None:
    lease = held()
    for sequence, at in ((2, 101.0), (3, 102.0)):
        lease.sent(sequence, at, armed=True, witness=WITNESS)
    assert lease.granted(grant(3), 103)
    assert not lease.granted(grant(2), 103)
    assert lease.granted(grant(3), 104)
    assert lease.until == 147


def test_disarming_waits_until_the_monitor_has_heard_it() -> None:
    lease = held()
    lease.sent(2, 101, armed=True, witness=WITNESS)
    assert lease.granted(grant(2, armed=False), 102)
    # It may still count on what beat 2 said.
    assert (lease.armed, lease.until) == (False, 146)
    lease.sent(3, 102, armed=False, witness=WITNESS)
    assert lease.granted(grant(3, armed=False), 103)
    assert lease.until is None
    assert lease.step(1000, None) is Verdict.HOLD


def test_a_node_without_a_lease_is_never_armed() -> None:
    lease = Lease(RUN, 0)
    lease.sent(1, 100, armed=False, witness=None)
    assert lease.granted(grant(1), 101)
    assert (lease.armed, lease.until, lease.granted_lately(101)) == (False, None, True)


def test_others_are_told_of_a_grant_only_while_it_is_fresh() -> None:
    lease = held()
    assert lease.granted_lately(100 + GRANT_FRESH_S - 0.1)
    assert not lease.granted_lately(100 + GRANT_FRESH_S)
    assert not Lease(RUN, LEASE_S).granted_lately(0)


def test_what_is_remembered_is_bounded() -> None:
    lease = Lease(RUN, LEASE_S)
    for sequence in range(BEATS_KEPT + 1):
        lease.sent(sequence, sequence / 100, armed=False, witness=None)
    assert not lease.granted(grant(0), 1)
    assert lease.granted(grant(1), 1)


# --- the peers ------------------------------------------------------------------------------------


def test_nobody_has_a_grant_so_everything_stays() -> None:
    lease = held()
    for now in range(101, 400):
        assert lease.step(now, peers(now, granted=False)) is Verdict.HOLD
    assert lease.held
    # A few seconds at a time: a frozen agent's guard does not wait.
    assert lease.until == 399 + HOLD_S


def test_one_with_a_grant_and_this_node_ends_in_time() -> None:
    lease = held()
    for now in range(101, 145):
        assert lease.step(now, peers(now, granted=True)) is Verdict.HOLD
    assert lease.until == 145
    assert lease.step(145, peers(145, granted=True)) is Verdict.EXPIRED


def test_a_peer_whose_grants_are_late_for_a_moment_gives_no_time() -> None:
    lease = held()
    for now in range(101, 144):
        lease.step(now, peers(now, granted=True))
    for now in range(144, 148):
        assert lease.step(now, peers(now, granted=False)) is Verdict.HOLD
    assert lease.step(148, peers(148, granted=True)) is Verdict.EXPIRED


def test_when_the_bus_is_back_a_node_has_time_to_get_there_too() -> None:
    lease = held()
    for now in range(101, 300):
        lease.step(now, peers(now, granted=False))
    for second in range(int(REJOIN_S)):
        now = 300 + second
        assert lease.step(now, peers(now, granted=True)) is Verdict.HOLD
        assert lease.until is not None
        assert lease.until <= 300 + REJOIN_S
    assert lease.step(300 + REJOIN_S, peers(306, granted=True)) is Verdict.EXPIRED


def test_a_grant_while_it_is_held_makes_it_an_ordinary_lease() -> None:
    lease = held()
    for now in range(101, 300):
        lease.step(now, peers(now, granted=False))
    lease.sent(2, 300, armed=True, witness=WITNESS)
    assert lease.granted(grant(2), 301)
    assert (lease.until, lease.held) == (345, False)


@pytest.mark.parametrize("witness", [None, UUID(int=8)], ids=["no directory then", "another now"])
def test_only_the_directory_that_the_monitor_knows_of_counts(witness: UUID | None) -> None:
    lease = held(witness=witness)
    for now in range(101, 145):
        lease.step(now, peers(now, granted=False))
    assert lease.step(145, peers(145, granted=False)) is Verdict.EXPIRED


def test_a_directory_that_cannot_be_read_any_more_ends_it() -> None:
    lease = held()
    for now in range(101, 200):
        lease.step(now, peers(now, granted=False))
    assert lease.step(199 + HOLD_S - 0.1, None) is Verdict.HOLD
    assert lease.step(199 + HOLD_S, None) is Verdict.EXPIRED


# --- another run's --------------------------------------------------------------------------------


def test_an_earlier_runs_lease_is_never_made_longer_by_peers() -> None:
    lease = Lease(RUN, LEASE_S, inherited=130)
    lease.sent(1, 100, armed=False, witness=WITNESS)
    for now in range(101, 130):
        assert lease.step(now, peers(now, granted=False)) is Verdict.HOLD
    assert lease.step(130, peers(130, granted=False)) is Verdict.EXPIRED
    # It is not this run that is over: it has only those desktops to stop.
    assert not lease.over
    assert lease.taken_over


def test_no_grant_counts_before_an_ended_lease_is_settled() -> None:
    lease = Lease(RUN, LEASE_S, inherited=90)
    lease.sent(1, 100, armed=False, witness=WITNESS)
    assert not lease.granted(grant(1), 101)
    lease.settled()
    assert lease.step(101, None) is Verdict.HOLD
    assert lease.granted(grant(1), 101)
    assert lease.until == 145


def test_the_first_grant_takes_an_earlier_runs_lease_over() -> None:
    lease = Lease(RUN, LEASE_S, inherited=130)
    lease.sent(1, 100, armed=False, witness=WITNESS)
    assert not lease.armed
    assert lease.granted(grant(1), 101)
    assert (lease.taken_over, lease.armed, lease.until) == (False, True, 145)


def test_a_monitor_that_counts_on_nothing_frees_what_was_taken_over() -> None:
    lease = Lease(RUN, LEASE_S, inherited=130)
    lease.sent(1, 100, armed=False, witness=WITNESS)
    assert lease.granted(grant(1, armed=False), 101)
    assert lease.until is None


# --- histories ------------------------------------------------------------------------------------


@dataclass
class History:
    """A run of the agent beside what the world knows: the send times of granted beats."""

    lease_s: float
    lease: Lease = field(init=False)
    now: float = 100.0
    sequence: int = 0
    sent: dict[int, float] = field(default_factory=dict)
    granted: list[float] = field(default_factory=list)
    allowed_until: float = float("-inf")
    """By looks at the peers."""
    quiet_since: float | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self.lease = Lease(RUN, self.lease_s)

    def believes(self) -> bool:
        """Whether an armed node lets its desktops run now."""
        return self.lease.until is not None and not self.lease.ended(self.now)

    def do(self, what: str, how_much: float, which: int) -> None:
        match what:
            case "time":
                self.now += how_much
            case "beat":
                self.sequence += 1
                self.sent[self.sequence] = self.now
                self.lease.sent(self.sequence, self.now, armed=self.lease.armed, witness=WITNESS)
            case "grant":
                sequence = max(0, self.sequence - which)
                if self.lease.granted(grant(sequence), self.now):
                    self.granted.append(self.sent[sequence])
            case "quiet" | "granted":
                self._look(what == "granted", how_much)
            case "unreadable":
                self.quiet_since = None
                self.lease.step(self.now, None)

    def _look(self, granted: bool, took: float) -> None:
        at = self.now
        self.now += took
        if not granted:
            self.quiet_since = at if self.quiet_since is None else self.quiet_since
            self.allowed_until = max(self.allowed_until, at + HOLD_S)
        else:
            if self.quiet_since is not None and at - self.quiet_since >= QUIET_S:
                self.allowed_until = max(self.allowed_until, at + REJOIN_S)
            self.quiet_since = None
        self.lease.step(self.now, peers(at, granted=granted))


steps = st.tuples(
    st.sampled_from(["time", "beat", "beat", "grant", "grant", "quiet", "granted", "unreadable"]),
    st.floats(0, 20),
    st.integers(-1, 3),
)


@pytest.mark.long
@given(st.lists(steps, max_size=60), st.sampled_from([10.0, 45.0]))
@settings(max_examples=300, deadline=None)
def test_it_never_believes_longer_than_it_may(
    history: list[tuple[str, float, int]], lease_s: float
) -> None:
    run = History(lease_s)
    for what, how_much, which in history:
        run.do(what, how_much, which)
        if run.believes():
            assert run.granted
            by_grant = run.now < max(run.granted) + lease_s
            assert by_grant or run.now < run.allowed_until
        if run.lease.over:
            run.ended = True
        # What has ended does not come back.
        assert not (run.ended and run.believes())


@given(
    st.lists(steps.filter(lambda step: step[0] not in {"quiet", "granted"}), max_size=60),
    st.sampled_from([10.0, 45.0]),
)
@pytest.mark.long
@settings(max_examples=200, deadline=None)
def test_without_a_directory_the_send_time_of_a_granted_beat_is_all_that_counts(
    history: list[tuple[str, float, int]], lease_s: float
) -> None:
    run = History(lease_s)
    for what, how_much, which in history:
        run.do(what, how_much, which)
        if run.lease.until is not None:
            assert run.lease.until <= max(run.granted) + lease_s
