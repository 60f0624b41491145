"""A desktop's life, step by step, with a node and an imaging service that keep their contracts."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import FULL, LOCKED

from roost_common.contracts.desktop import (
    DeleteDesktop,
    DesktopChanged,
    DesktopDeleted,
    DesktopFact,
    DesktopReimaged,
    DesktopStarted,
    DesktopStartRefused,
    DesktopState,
    DesktopStopped,
    EnsureDesktop,
    Power,
    ReimageDesktop,
    SetDesktopPower,
    StopMode,
    StopReason,
)
from roost_common.contracts.disk import EnsureDisk

pytestmark = pytest.mark.integration


async def running(site: Site, number: int = 1) -> UUID:
    """A desktop that runs."""
    desktop = await site.create(number)
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    return desktop


async def test_from_create_to_running_with_one_event_for_each_change(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await site.create()
    await site.settle()
    row = await site.row(desktop)
    assert row.state is DesktopState.RUNNING
    assert row.host == "n1"
    assert row.boot_id == node.domains[desktop].boot_id
    assert row.next_check_at is None, "a desktop that is as it should be costs nothing"
    assert await site.names_said(desktop) == ["created", "changed", "changed", "started"]
    views = [event.desktop for event in await site.spoken(DesktopFact)]
    assert [view.revision for view in views] == [1, 2, 3, 4]
    assert views[-1].spice is not None
    assert [command.generation for command in site.imaging.commands] == [1]
    assert len(node.commands) == 1


async def test_what_the_loop_says_is_found_under_the_request_that_ordered_it(site: Site) -> None:
    desktop = await site.create()
    await site.settle()
    await site.add_node("n1")
    await site.collect()
    await site.reconcile()
    envelopes = [row["envelope"] for row in await site.rows("outbox")]
    assert {one["type"] for one in envelopes} == {DesktopChanged.name, EnsureDesktop.name}
    wanted = (await site.row(desktop)).correlation_id
    assert {one["correlation_id"] for one in envelopes} == {wanted}


async def test_a_desktop_that_is_not_to_run_waits_with_its_disk(site: Site) -> None:
    await site.add_node("n1")
    desktop = await site.create(power=Power.OFF)
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.STOPPED
    await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.ON))
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING


async def test_power_off_asks_the_guest_and_frees_the_host_when_it_is_gone(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    site.clock.advance(1)
    await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.OFF))
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.host) == (DesktopState.STOPPING, "n1")
    assert node.commands[-1].stop is StopMode.SHUTDOWN
    await site.tell(node.shut_down(desktop))
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.host, row.reserved_memory_mib) == (DesktopState.STOPPED, None, 0)
    (stopped,) = await site.spoken(DesktopStopped)
    assert stopped.reason is StopReason.REQUESTED


async def test_a_guest_that_shuts_itself_down_stays_down_and_its_host_is_freed(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    await site.tell(node.stop(desktop, StopReason.GUEST_SHUTDOWN))
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.power, row.host) == (DesktopState.STOPPED, Power.OFF, None)
    (stopped,) = await site.spoken(DesktopStopped)
    assert stopped.reason is StopReason.GUEST_SHUTDOWN
    assert desktop not in node.domains


async def test_a_crash_is_told_and_made_good_and_repeated_crashes_slow_down(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    first_boot = (await site.row(desktop)).boot_id
    for crash in range(1, 5):
        await site.tell(node.stop(desktop, StopReason.CRASHED))
        await site.settle()
        row = await site.row(desktop)
        assert row.power is Power.ON
        assert row.boot_id is None
        assert (row.problem is not None) == (crash >= 3)
        assert row.next_check_at is not None
        site.clock.advance((row.next_check_at - site.clock.now()).total_seconds())
        await site.settle()
        assert (await site.row(desktop)).state is DesktopState.RUNNING
    stops = await site.spoken(DesktopStopped)
    assert [stop.reason for stop in stops] == [StopReason.CRASHED] * 4
    boots = {event.desktop.boot_id for event in await site.spoken(DesktopStarted)}
    assert len(boots) == 5
    assert first_boot in boots
    assert site.clock.monotonic() >= 1 + 5 + 15 + 30


async def test_reimage_waits_for_the_domain_to_be_gone_then_takes_the_next_generation(
    site: Site,
) -> None:
    await site.add_node("n1")
    desktop = await running(site)
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2))
    await site.reconcile()
    assert (await site.row(desktop)).state is DesktopState.STOPPING
    off = (await site.spoken(EnsureDesktop))[-1]
    assert (off.power, off.stop) == (Power.OFF, StopMode.POWEROFF)
    assert not [c for c in await site.spoken(EnsureDisk) if c.generation == 2]
    for answer in site.answer(off, "n1"):
        await site.tell(answer)
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.disk_generation) == (DesktopState.RUNNING, 2)
    assert row.disk_path is not None
    assert row.disk_path.endswith(".2.qcow2")
    assert len(await site.spoken(DesktopReimaged)) == 1
    assert (await site.names_said(desktop))[-1] == "started"
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2, power=Power.OFF))
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING, "it is there already"


async def test_delete_takes_domain_disk_and_name(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    row = await site.row(desktop)
    assert row.state is DesktopState.DELETED
    assert row.host is None
    assert node.domains == {}
    assert site.imaging.reached[desktop][1] is False
    assert len(await site.spoken(DesktopDeleted)) == 1
    again = await site.create(2, name="d1")
    assert (await site.row(again)).name == "d1"
    await site.create(1)
    assert (await site.row(desktop)).state is DesktopState.DELETED, "a tombstone stays one"


async def test_without_a_host_the_start_is_refused_once_and_happens_when_one_comes(
    site: Site,
) -> None:
    desktop = await site.create()
    await site.settle()
    for _ in range(5):
        await site.pass_time(20)
    refusals = await site.spoken(DesktopStartRefused)
    assert [event.desktop.problem.code for event in refusals if event.desktop.problem] == [
        "placement.no-host"
    ]
    await site.add_node("n1")
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.problem) == (DesktopState.RUNNING, None)


async def test_full_hosts_refuse_and_the_next_to_leave_makes_room(site: Site) -> None:
    node = await site.add_node("n1", memory_mib=2048)
    first, second = await running(site, 1), await running(site, 2)
    third = await site.create(3)
    await site.settle()
    row = await site.row(third)
    assert row.problem is not None
    assert row.problem.code == "placement.no-capacity"
    assert row.state is DesktopState.STARTING
    await site.tell(node.stop(first, StopReason.GUEST_SHUTDOWN))
    await site.settle()
    assert (await site.row(third)).state is DesktopState.RUNNING
    assert (await site.row(second)).state is DesktopState.RUNNING


async def test_full_storage_is_a_problem_until_it_is_not(site: Site) -> None:
    await site.add_node("n1")
    site.imaging.refuses = FULL
    desktop = await site.create()
    await site.settle()
    await site.pass_time(6)
    row = await site.row(desktop)
    assert (row.state, row.problem) == (DesktopState.PROVISIONING, FULL)
    assert len(await site.spoken(DesktopStartRefused)) == 1
    site.imaging.refuses = None
    await site.pass_time(60)
    row = await site.row(desktop)
    assert (row.state, row.problem) == (DesktopState.RUNNING, None)


async def test_a_host_that_refuses_is_left_for_another(site: Site) -> None:
    bad = await site.add_node("n1")
    bad.refuses = LOCKED
    await site.add_node("n2", memory_mib=4096)
    desktop = await site.create()
    await site.settle()
    assert (await site.row(desktop)).problem == LOCKED
    await site.pass_time(5)
    row = await site.row(desktop)
    assert (row.state, row.host, row.problem) == (DesktopState.RUNNING, "n2", None)
    assert len(await site.spoken(DesktopStartRefused)) == 1
