from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.desktop import (
    DiskAttachment,
    DomainState,
    EnsureDesktop,
    Power,
    StopMode,
)
from roost_host_agent.hypervisor.driver import DomainView, Mark
from roost_host_agent.plan import Action, Remove, Start, is_outdated, is_over, plan

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
DESKTOP = uuid4()
DISK = "/s/d-1.qcow2"


def on(generation: int = 7, disk: str | None = DISK) -> EnsureDesktop:
    return wanted(DESKTOP, generation=generation, disk=disk)


def off(
    generation: int = 8, stop: StopMode = StopMode.POWEROFF, grace_s: int = 120
) -> EnsureDesktop:
    return wanted(
        DESKTOP, generation=generation, power=Power.OFF, disk=None, stop=stop, grace_s=grace_s
    )


def seen(
    generation: int = 7,
    state: DomainState = DomainState.RUNNING,
    stop_by: datetime | None = None,
    disk: str = DISK,
) -> DomainView:
    return DomainView(Mark(DESKTOP, "d", generation, UUID(int=1), disk, stop_by), state)


def test_what_is_absent_is_started() -> None:
    assert plan(on(), None, NOW) == (Start(),)


def test_what_runs_as_wanted_is_left_alone() -> None:
    assert plan(on(), seen(), NOW) == ()


def test_a_newer_wish_for_a_running_desktop_redefines_it() -> None:
    assert plan(on(9), seen(), NOW) == (Start(),)


def test_another_disk_is_another_run() -> None:
    assert plan(on(9, "/s/d-2.qcow2"), seen(), NOW) == (Remove(), Start())


def test_what_shut_itself_down_is_started_again_by_whoever_wants_it_on() -> None:
    assert plan(on(), seen(state=DomainState.SHUTOFF), NOW) == (Start(),)


def test_what_is_paused_is_continued() -> None:
    assert plan(on(), seen(state=DomainState.PAUSED), NOW) == (Start(),)


def test_power_off_is_at_once() -> None:
    assert plan(off(), seen(), NOW) == (Remove(),)


def test_shutdown_gives_the_guest_its_time() -> None:
    command = off(stop=StopMode.SHUTDOWN, grace_s=60)
    assert plan(command, seen(), NOW) == (Remove(NOW + timedelta(seconds=60)),)


def test_shutdown_without_grace_is_power_off() -> None:
    assert plan(off(stop=StopMode.SHUTDOWN, grace_s=0), seen(), NOW) == (Remove(),)


def test_asking_again_does_not_prolong_the_time() -> None:
    deadline = NOW + timedelta(seconds=60)
    command = off(stop=StopMode.SHUTDOWN, grace_s=60)
    later = NOW + timedelta(seconds=20)
    assert plan(command, seen(8, stop_by=deadline), later) == (Remove(deadline),)
    assert plan(command, seen(8, stop_by=deadline), deadline) == (Remove(),)


def test_a_stopped_guest_is_undefined_without_asking() -> None:
    command = off(stop=StopMode.SHUTDOWN)
    assert plan(command, seen(state=DomainState.SHUTOFF), NOW) == (Remove(),)


def test_what_is_absent_needs_no_stop() -> None:
    assert plan(off(), None, NOW) == ()


def test_wanting_it_on_again_cancels_the_deadline() -> None:
    assert plan(on(9), seen(8, stop_by=NOW), NOW) == (Start(),)


def test_older_commands_are_outdated() -> None:
    assert is_outdated(on(6), seen(7), 0)
    assert not is_outdated(on(7), seen(7), 0)
    assert is_outdated(on(7), None, 8)
    assert not is_outdated(on(9), None, 8)


def test_a_deadline_is_over_when_it_has_passed_or_the_guest_has_gone() -> None:
    later = NOW + timedelta(seconds=1)
    assert not is_over(seen(), NOW)
    assert not is_over(seen(stop_by=later), NOW)
    assert is_over(seen(stop_by=later), later)
    assert is_over(seen(stop_by=later, state=DomainState.SHUTOFF), NOW)


# --- what holds whatever happens ------------------------------------------------------------------


def apply(
    command: EnsureDesktop, view: DomainView | None, actions: tuple[Action, ...]
) -> DomainView | None:
    """What the actions do to a guest that follows a shutdown only when its time is over."""
    for action in actions:
        if isinstance(action, Start):
            stays = view is not None and view.state is DomainState.RUNNING
            disk = (
                view.mark.disk if view is not None and stays else command.disk and command.disk.path
            )
            view = seen(command.generation, disk=str(disk))
        elif action.stop_by is None or view is None:
            view = None
        else:
            view = seen(command.generation, stop_by=action.stop_by, disk=view.mark.disk)
    return view


commands = st.builds(
    lambda generation, power, stop, grace_s, disk: wanted(
        DESKTOP,
        generation=generation,
        power=power,
        stop=stop,
        grace_s=grace_s,
        disk=None,
    ).model_copy(
        update={
            "disk": None
            if power is Power.OFF
            else DiskAttachment(path=f"/s/d-{disk}.qcow2", disk_id=DESKTOP)
        }
    ),
    st.integers(1, 9),
    st.sampled_from(Power),
    st.sampled_from(StopMode),
    st.integers(0, 60),
    st.integers(1, 3),
)


@given(st.lists(commands, min_size=1, max_size=8, unique_by=lambda c: c.generation), st.randoms())
def test_any_order_ends_as_the_newest_wants_it(
    history: list[EnsureDesktop], random: st.DataObject
) -> None:
    deliveries = history * 2
    random.shuffle(deliveries)  # type: ignore[attr-defined]
    view: DomainView | None = None
    removed = 0
    for command in deliveries:
        if is_outdated(command, view, removed):
            continue
        view = apply(command, view, plan(command, view, NOW))
        if view is None:
            removed = command.generation
    newest = max(history, key=lambda command: command.generation)
    if newest.power is Power.ON:
        assert view is not None
        assert newest.disk is not None
        assert view.mark.generation == newest.generation
        assert view.mark.disk == newest.disk.path
        assert view.mark.stop_by is None
    else:
        assert view is None or is_over(view, NOW + timedelta(seconds=newest.grace_s))
    assert plan(newest, view, NOW) in {(), (Remove(view.mark.stop_by),) if view else ()}
