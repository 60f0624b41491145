"""The detector's stories: who is suspected, who is down, and who never is."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from roost_common.contracts.host import Health
from roost_ha_monitor.detector import Policy, State, hear, step

POLICY = Policy()


def test_a_failure_is_known_within_five_seconds_of_the_last_beat() -> None:
    tick, commit_and_publish = 0.25, 0.25
    assert POLICY.down_after_s + tick + commit_and_publish <= 5.0


def test_the_first_beat_makes_a_host_up(watched: Any) -> None:
    watched.step(0.0)
    assert watched.said == []
    watched.beat(0.5)
    assert watched.healths == [Health.UP]
    assert watched.said[0].sequence == 1


def test_a_beating_host_stays_up(watched: Any) -> None:
    watched.beats(0, 100)
    assert watched.healths == [Health.UP]


def test_one_lost_beat_suspects_nobody(watched: Any) -> None:
    watched.beats(0, 10)
    watched.silence(10, 11.9)
    watched.beat(12)
    watched.beats(13, 20)
    assert watched.healths == [Health.UP]


def test_silence_suspects_then_downs_and_beats_recover(watched: Any) -> None:
    watched.beats(0, 10)
    watched.silence(10, 30)
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.DOWN]
    assert watched.said[1].at == pytest.approx(10 + POLICY.suspect_after_s, abs=0.25)
    assert watched.said[2].at == pytest.approx(10 + POLICY.down_after_s, abs=0.25)

    watched.beats(30, 39)
    assert watched.healths[3:] == [Health.RECOVERED]
    watched.beats(40, 42)
    assert watched.healths[3:] == [Health.RECOVERED, Health.UP]
    assert [change.sequence for change in watched.said] == [1, 2, 3, 4, 5]


def test_a_suspected_host_that_beats_is_simply_up(watched: Any) -> None:
    watched.beats(0, 10)
    watched.silence(10, 13)
    watched.beat(13.1)
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.UP]


def test_a_flapping_host_does_not_count_as_up(watched: Any) -> None:
    watched.beats(0, 5)
    watched.silence(5, 12)
    start = 12.0
    for _ in range(4):
        watched.beats(start, start + 3)
        watched.silence(start + 3, start + 6)
        start += 6
    assert Health.UP not in watched.healths[1:]
    assert watched.healths[3:7] == [
        Health.RECOVERED,
        Health.SUSPECTED,
        Health.RECOVERED,
        Health.SUSPECTED,
    ]


def test_both_steps_are_said_when_one_tick_comes_late(watched: Any) -> None:
    watched.beats(0, 3)
    watched.step(60)
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.DOWN]


def test_who_hears_nothing_concludes_nothing(watched: Any) -> None:
    watched.beats(0, 3)
    watched.observing_since = None
    watched.silence(3, 120)
    assert watched.healths == [Health.UP]

    watched.observing_since = 120.0
    watched.silence(120, 122)
    watched.beats(122, 130)
    assert watched.healths == [Health.UP]


def test_a_host_that_died_while_nobody_heard_is_noticed_after_the_grace(watched: Any) -> None:
    watched.beats(0, 3)
    watched.observing_since = 100.0
    watched.silence(100, 110)
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.DOWN]
    assert watched.said[-1].at == pytest.approx(100 + POLICY.down_after_s, abs=0.25)


def test_a_known_host_never_heard_by_this_copy_gets_the_same_grace(watched: Any) -> None:
    watched.state = State(health=Health.UP, sequence=7)
    watched.observing_since = 50.0
    watched.silence(50, 60)
    assert [(change.health, change.sequence) for change in watched.said] == [
        (Health.SUSPECTED, 8),
        (Health.DOWN, 9),
    ]


def test_down_needs_a_real_beat_to_end(watched: Any) -> None:
    watched.state = State(health=Health.DOWN, sequence=3, probation=True)
    watched.observing_since = 50.0
    watched.silence(50, 60)
    assert watched.said == []


def test_a_removed_host_comes_back_by_beating_with_its_sequence(watched: Any) -> None:
    watched.state = State(health=None, sequence=12)
    watched.silence(0, 20)
    assert watched.said == []
    watched.beat(20)
    assert [(change.health, change.sequence) for change in watched.said] == [(Health.UP, 13)]


def test_a_repeated_beat_keeps_nobody_alive(watched: Any) -> None:
    watched.beats(0, 5)
    last = watched.beat(6)
    for t in range(7, 20):
        watched.step(float(t), last)
    assert watched.healths == [Health.UP, Health.SUSPECTED, Health.DOWN]


def test_beats_out_of_order_leave_the_newest(beat_at: Any) -> None:
    pulse = hear(None, beat_at(0, 1), 0.0)
    pulse = hear(pulse, beat_at(2, 3, libvirt=False), 2.0)
    late = hear(pulse, beat_at(1, 2), 2.1)
    assert late == pulse
    assert not late.libvirt


def test_beats_that_waited_in_a_queue_are_evidence_of_the_past(watched: Any) -> None:
    watched.beats(0, 5)
    # The host dies at 9.5; its beats of 6 … 9 arrive all at once at 14.
    for sent in (6.0, 7.0, 8.0, 9.0):
        watched.beat(14.0, sent=sent)
    assert watched.state.pulse.heard_at == pytest.approx(9.0)
    watched.step(14.0)
    assert watched.healths[-1] is Health.DOWN


def test_beats_that_waited_and_then_go_on_bring_a_host_up_to_date(watched: Any) -> None:
    watched.beats(0, 5)
    for sent in (6.0, 7.0, 8.0, 9.0, 10.0):
        watched.beat(10.05, sent=sent)
    assert watched.state.pulse.heard_at == pytest.approx(10.0, abs=0.1)
    watched.beats(11, 20)
    assert Health.DOWN not in watched.healths
    assert watched.state.health is Health.UP


@pytest.mark.parametrize("jump", [-3600.0, -1.5, -0.7, 0.7, 3600.0])
def test_a_clock_that_is_set_harms_nobody(watched: Any, jump: float) -> None:
    watched.beats(0, 10)
    for t in range(11, 60):
        watched.beat(float(t), sent=t + jump)
    assert watched.healths == [Health.UP]


@pytest.mark.parametrize("rate", [0.95, 1.05])
def test_a_clock_that_drifts_harms_nobody(watched: Any, rate: float) -> None:
    for t in range(1000):
        watched.beat(float(t), sent=t * rate)
    assert watched.healths == [Health.UP]


def test_a_host_that_slept_and_wakes_with_its_old_clock_recovers(watched: Any) -> None:
    watched.beats(0, 10)
    watched.silence(10, 3600)
    for t in range(3600, 3620):
        watched.beat(float(t), sent=t - 3589.0)
    assert watched.healths[2:] == [Health.DOWN, Health.RECOVERED, Health.UP]


def test_a_restarted_agent_begins_anew_and_its_former_self_counts_for_nothing(
    beat_at: Any,
) -> None:
    old, new = uuid4(), uuid4()
    pulse = hear(None, beat_at(0, 500, agent_id=old), 0.0)
    pulse = hear(pulse, beat_at(3, 0, agent_id=new), 3.0)
    assert (pulse.agent_id, pulse.sequence, pulse.heard_at) == (new, 0, 3.0)
    assert hear(pulse, beat_at(1, 501, agent_id=old), 3.5) == pulse


def test_only_so_many_former_agents_are_remembered(beat_at: Any) -> None:
    pulse = None
    for number in range(1, 50):
        pulse = hear(pulse, beat_at(number, 0, agent_id=UUID(int=number)), float(number))
    assert pulse is not None
    assert len(pulse.retired) == 4


def test_libvirt_being_away_is_no_silence(watched: Any) -> None:
    for t in range(30):
        watched.beat(float(t), libvirt=False)
    assert watched.healths == [Health.UP]
    assert watched.state.pulse.libvirt is False


def test_a_step_without_news_changes_nothing(watched: Any) -> None:
    watched.beats(0, 10)
    again, made = step(watched.state, None, 10.1, POLICY, 0.0)
    assert again == watched.state
    assert made == []


def test_a_host_that_has_time_to_come_back_is_suspected_and_not_down() -> None:
    spared = State(Health.UP, 1, 0.0, spared_until=300.0)
    state, said = step(spared, None, 299.0, POLICY, observing_since=0.0)
    assert [change.health for change in said] == [Health.SUSPECTED]
    state, said = step(state, None, 300.0, POLICY, observing_since=0.0)
    assert [change.health for change in said] == [Health.DOWN]
