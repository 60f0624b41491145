"""Reports and observations against a real database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import Domain, FakeNode

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import (
    DeleteDesktop,
    DesktopState,
    DesktopStopped,
    DomainState,
    DomainStats,
    EnsureDesktop,
    GuestInfo,
    Power,
    StopReason,
)
from roost_common.contracts.host import (
    Health,
    HostApproved,
    HostDown,
    HostEnrolled,
    HostRecovered,
    HostReport,
    HostState,
    HostSuspected,
    HostUp,
)

pytestmark = pytest.mark.integration


@contextmanager
def statements(site: Site) -> Iterator[list[str]]:
    """The SQL that the block has sent."""
    sent: list[str] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engine = site.database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def running(site: Site, number: int = 1) -> UUID:
    desktop = await site.create(number)
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    return desktop


# --- hosts ------------------------------------------------------------------------------------


async def test_a_node_nobody_knows_is_enrolled_once_and_waits(site: Site) -> None:
    node = await site.add_node("stranger")
    await site.tell(node.report())
    assert [event.node for event in await site.spoken(HostEnrolled)] == ["stranger"]
    assert await site.spoken(HostApproved) == []
    assert (await site.host("stranger")).state is HostState.PENDING_APPROVAL
    desktop = await site.create()
    await site.settle()
    row = await site.row(desktop)
    assert row.problem is not None
    assert row.problem.code == "placement.no-host"


async def test_a_name_on_the_list_is_approved_at_once(site: Site) -> None:
    await site.add_node("n7")
    assert [event.node for event in await site.spoken(HostApproved)] == ["n7"]
    assert (await site.host("n7")).state is HostState.UP


async def test_what_a_node_can_do_follows_its_reports_and_its_figures_at_a_lower_rate(
    site: Site,
) -> None:
    node = await site.add_node("n1")
    first = (await site.host("n1")).reported_at
    site.clock.advance(5)
    await site.tell(node.report())
    assert (await site.host("n1")).reported_at == first
    node.memory_mib = 99999
    await site.tell(node.report())
    assert (await site.host("n1")).capabilities.memory_mib == 99999
    site.clock.advance(31)
    await site.tell(node.report())
    assert (await site.host("n1")).reported_at == site.clock.now()


@pytest.mark.parametrize("seed", range(6))
async def test_of_health_events_the_newest_counts_in_any_order(site: Site, seed: int) -> None:
    node = FakeNode("n1", site.clock)
    since = site.clock.now()
    facts: list[Message] = [
        kind(node="n1", sequence=sequence, since=since, reason="test")
        for sequence, kind in enumerate([HostUp, HostSuspected, HostDown, HostRecovered], 1)
    ]
    order = [*facts, node.report()] * 2
    Random(seed).shuffle(order)
    for message in order:
        await site.tell(message)
    host = await site.host("n1")
    assert (host.health, host.state) == (Health.RECOVERED, HostState.NON_RESPONSIVE)
    await site.tell(HostUp(node="n1", sequence=5, since=since, reason="test"))
    assert (await site.host("n1")).state is HostState.UP


async def test_a_silent_host_makes_its_desktops_unknown_and_nothing_starts_elsewhere(
    site: Site,
) -> None:
    await site.add_node("n1")
    first = await running(site, 1)
    boot = (await site.row(first)).boot_id
    await site.add_node("n2")
    since = site.clock.now()
    await site.tell(HostDown(node="n1", sequence=2, since=since, reason="silent"))
    await site.settle()
    row = await site.row(first)
    assert (row.state, row.host, row.boot_id) == (DesktopState.UNKNOWN, "n1", boot)
    sent = len(await site.spoken(EnsureDesktop))
    for _ in range(5):
        await site.pass_time(60)
    assert len(await site.spoken(EnsureDesktop)) == sent
    await site.tell(HostUp(node="n1", sequence=3, since=since, reason="beats"))
    await site.settle()
    assert (await site.row(first)).state is DesktopState.RUNNING
    assert (await site.names_said(first))[-2:] == ["changed", "changed"], "the run is the same"


# --- desktops ---------------------------------------------------------------------------------


async def test_a_desktop_missing_from_a_complete_report_is_lost_and_started_again(
    site: Site,
) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    site.clock.advance(15)
    node.lose_power()
    await site.tell(node.report(complete=False))
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    await site.tell(node.report())
    (stopped,) = await site.spoken(DesktopStopped)
    assert (stopped.reason, stopped.desktop.restarting) == (StopReason.HOST_FAILED, True)
    await site.settle()
    await site.pass_time(2)
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    assert desktop in node.domains


async def test_a_report_that_crosses_a_start_changes_nothing(site: Site) -> None:
    node = await site.add_node("n1")
    await site.create()
    before = node.report()
    await site.settle()
    after = node.report()
    lacking = after.model_copy(update={"domains": ()})
    for report in (before, lacking):
        await site.tell(report)
        await site.settle()
    assert (await site.row(UUID(int=1))).state is DesktopState.RUNNING
    assert await site.spoken(DesktopStopped) == []


async def test_what_events_missed_a_report_makes_good(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await site.create()
    while not node.domains:
        await site.reconcile()
        for message, where in await site.collect():
            if isinstance(message, EnsureDesktop) and where == "n1":
                node.take(message)  # and its event is lost
            elif (answer := site.answer(message, where)) and where is None:
                await site.tell(answer[0])
    assert (await site.row(desktop)).state is DesktopState.STARTING
    await site.tell(node.report())
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    site.clock.advance(20)
    node.stop(desktop, StopReason.GUEST_SHUTDOWN)
    await site.tell(node.report())
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.STOPPED
    (stopped,) = await site.spoken(DesktopStopped)
    assert stopped.reason is StopReason.GUEST_SHUTDOWN


@pytest.mark.parametrize("by", ["event", "report"])
async def test_a_copy_on_another_node_is_taken_away_there_and_only_there(
    site: Site, by: str
) -> None:
    home = await site.add_node("n1", memory_mib=16384)
    desktop = await running(site)
    other = await site.add_node("n2")
    other.domains[desktop] = Domain(generation=1, boot_id=uuid4())
    await site.tell(other.event(desktop) if by == "event" else other.report())
    await site.settle()
    assert other.domains == {}
    assert desktop in home.domains
    row = await site.row(desktop)
    assert (row.state, row.host) == (DesktopState.RUNNING, "n1")
    assert await site.spoken(DesktopStopped) == []


async def test_a_copy_of_a_deleted_desktop_is_taken_away(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    generation = node.domains[desktop].generation
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    site.clock.advance(1)
    node.removed.clear()
    node.domains[desktop] = Domain(generation=generation, boot_id=uuid4())
    await site.tell(node.report())
    await site.settle()
    assert node.domains == {}


async def test_a_domain_nobody_ordered_is_left_alone(site: Site) -> None:
    node = await site.add_node("n1")
    node.domains[uuid4()] = Domain(generation=1, boot_id=uuid4())
    await site.tell(node.report())
    await site.tell(node.event(next(iter(node.domains))))
    assert await site.spoken(EnsureDesktop) == []


async def test_a_node_that_is_not_approved_is_not_believed(site: Site) -> None:
    await site.add_node("n1")
    desktop = await running(site)
    stranger = await site.add_node("stranger")
    stranger.domains[desktop] = Domain(generation=99, boot_id=uuid4())
    await site.tell(stranger.report())
    assert [node for m, node in site.said if isinstance(m, EnsureDesktop)] == ["n1"]


@pytest.mark.parametrize("seed", range(8))
async def test_every_message_of_a_life_twice_and_in_any_order(site: Site, seed: int) -> None:
    """A run, a crash, the next run: whatever the order, the end is the same."""
    node = await site.add_node("n1")
    desktop = await running(site)
    history: list[Message] = [
        node.event(desktop),
        node.report(),
        node.stop(desktop, StopReason.CRASHED),
    ]
    site.clock.advance(1)
    await site.tell(history[-1])
    await site.settle()
    await site.pass_time(2)
    boot = node.domains[desktop].boot_id
    history += [node.event(desktop), node.report()]
    order = history * 2
    Random(seed).shuffle(order)
    for message in order:
        await site.tell(message)
        await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.boot_id, row.power) == (DesktopState.RUNNING, boot, Power.ON)
    assert len(await site.spoken(DesktopStopped)) == 1


async def test_a_node_whose_clock_was_set_back_is_believed_at_once(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    site.clock.advance(5)
    node.restart_agent(set_back=timedelta(hours=1))
    node.stop(desktop, StopReason.GUEST_SHUTDOWN)
    await site.tell(node.report())
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.STOPPED


async def test_a_late_word_of_an_earlier_run_of_the_agent_undoes_nothing(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    site.clock.advance(20)
    late_report = node.report()
    late_lack = late_report.model_copy(update={"domains": (), "sent_at": site.clock.now()})
    node.stop(desktop, StopReason.CRASHED)
    late_event = node.event(desktop)
    node.domains[desktop].state = DomainState.RUNNING
    node.restart_agent(set_back=timedelta(hours=1))
    node.memory_mib = 4096
    early_event = node.event(desktop)
    await site.tell(early_event)
    await site.tell(node.report())
    before = await site.row(desktop)
    for late in (late_event, late_report, late_lack):
        await site.tell(late)
    host, row = await site.host("n1"), await site.row(desktop)
    assert (host.agent_id, host.memory_mib) == (node.agent_id, 4096)
    assert (row.state, row.seen_at) == (DesktopState.RUNNING, before.seen_at)
    assert await site.spoken(DesktopStopped) == []


async def test_two_hundred_desktops_that_did_not_change_cost_three_queries_and_no_write(
    site: Site,
) -> None:
    node = await site.add_node("n1", memory_mib=1 << 20, cpus=96)
    for number in range(1, 201):
        await site.create(number)
    await site.settle()
    assert len(node.domains) == 200
    site.clock.advance(1)
    with statements(site) as sent:
        await site.tell(node.report())
    assert len(sent) <= 3, sent
    assert not [one for one in sent if not one.lstrip().upper().startswith("SELECT")]
    site.clock.advance(1)
    node.stop(UUID(int=5), StopReason.CRASHED)
    with statements(site) as sent:
        await site.tell(node.report())
    assert len(sent) <= 7, sent
    with statements(site) as sent:
        assert not await site.reconciler.step()
    assert len(sent) <= 6, sent


# --- readings ---------------------------------------------------------------------------------


def with_readings(report: HostReport, guest: GuestInfo | None, cpu: float) -> HostReport:
    domains = tuple(
        one.model_copy(update={"guest": guest, "stats": DomainStats(cpu_percent=cpu)})
        for one in report.domains
    )
    return report.model_copy(update={"domains": domains})


async def test_what_a_guest_tells_first_is_kept_at_once_and_figures_at_a_lower_rate(
    site: Site,
) -> None:
    node = await site.add_node("n1")
    desktop = await running(site)
    told = GuestInfo(os="Debian", hostname="d1", users=("ann",))
    await site.tell(with_readings(node.report(), None, 1))
    assert await site.rows("readings") == []
    await site.tell(with_readings(node.report(), told, 2))
    await site.tell(with_readings(node.report(), None, 3))
    (reading,) = await site.rows("readings")
    assert reading["desktop_id"] == desktop
    assert (reading["guest"], reading["stats"].cpu_percent) == (told, 2)
    site.clock.advance(31)
    await site.tell(with_readings(node.report(), None, 4))
    (reading,) = await site.rows("readings")
    assert (reading["guest"], reading["stats"].cpu_percent) == (told, 4)
    changed = node.event(desktop)
    newer = told.model_copy(update={"users": ()})
    domain = changed.domain.model_copy(update={"guest": newer})
    await site.tell(changed.model_copy(update={"domain": domain}))
    (reading,) = await site.rows("readings")
    assert reading["guest"] == newer
    assert changed.domain.state is DomainState.RUNNING
