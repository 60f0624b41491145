"""One round through a host's fence devices."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from roost_ha_monitor.fencing.plan import (
    AskStatus,
    NothingWorked,
    Proven,
    Said,
    Step,
    Stopped,
    SwitchOff,
    Try,
    next_step,
)

said = st.sampled_from(Said)


def play(devices: list[tuple[Said, Said, str]], stop_after: int) -> tuple[list[Step], list[Try]]:
    """A whole round with devices that answer so; wanted no more after so many steps."""
    steps: list[Step] = []
    tries: list[Try] = []
    while True:
        step = next_step(len(devices), tries, stop=len(steps) >= stop_after)
        steps.append(step)
        match step:
            case SwitchOff(position):
                tries.append(Try(position, devices[position][0]))
            case AskStatus(position):
                _, status, lives = devices[position]
                tries[-1] = replace(tries[-1], status=status, lives=lives)
            case _:
                return steps, tries


GOOD = (Said.DONE, Said.OFF, "")
FAILS = (Said.FAILED, Said.OFF, "")
HANGS = (Said.TIMED_OUT, Said.TIMED_OUT, "")
LIES = (Said.DONE, Said.ON, "")
LIVES = (Said.DONE, Said.OFF, "it beats")


def test_the_first_device_does_it() -> None:
    steps, _ = play([GOOD, GOOD], 99)
    assert steps == [SwitchOff(0), AskStatus(0), Proven(0)]


def test_devices_that_fail_hang_or_lie_are_left_for_the_next() -> None:
    steps, _ = play([FAILS, HANGS, LIES, LIVES, GOOD], 99)
    assert steps == [
        SwitchOff(0),
        SwitchOff(1),
        SwitchOff(2),
        AskStatus(2),
        SwitchOff(3),
        AskStatus(3),
        SwitchOff(4),
        AskStatus(4),
        Proven(4),
    ]


def test_without_a_device_that_works_nothing_worked() -> None:
    assert play([FAILS, LIES], 99)[0][-1] == NothingWorked()
    assert play([], 99)[0] == [NothingWorked()]


def test_what_was_begun_is_brought_to_its_end() -> None:
    assert play([GOOD], 0)[0] == [Stopped()]
    assert play([GOOD], 1)[0] == [SwitchOff(0), AskStatus(0), Proven(0)]
    assert play([FAILS, GOOD], 1)[0] == [SwitchOff(0), Stopped()]


@given(
    devices=st.lists(st.tuples(said, said, st.sampled_from(["", "it beats"])), max_size=5),
    stop_after=st.integers(0, 12),
)
def test_nothing_is_proven_without_proof_and_every_round_ends(
    devices: list[tuple[Said, Said, str]], stop_after: int
) -> None:
    steps, tries = play(devices, stop_after)
    assert len(steps) <= 2 * len(devices) + 1
    last = steps[-1]
    if isinstance(last, Proven):
        assert devices[last.position] == GOOD
        assert tries[-1] == Try(last.position, *GOOD)
    else:
        assert isinstance(last, NothingWorked | Stopped)
        assert all((each.off, each.status, each.lives) != GOOD for each in tries)
    switched = [step.position for step in steps if isinstance(step, SwitchOff)]
    assert switched == list(range(len(switched))), "in order, each once"
