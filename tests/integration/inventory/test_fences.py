"""A host was fenced: what inventory takes off it, tells, and starts elsewhere."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import SMALL

from roost_common.contracts.desktop import (
    DesktopRestarted,
    DesktopState,
    DesktopStopped,
    EnsureDesktop,
    Power,
    StopReason,
)
from roost_common.contracts.host import (
    FencedBy,
    FenceScope,
    HostDesktopsLost,
    HostDown,
    HostFenced,
    HostUp,
)
from roost_common.contracts.spec import DesktopSpec, HaPolicy
from roost_inventory.reconcile import GIVE_UP

INCIDENT = UUID(int=77)


def ranked(priority: int, *, restart: bool = True) -> DesktopSpec:
    return SMALL.model_copy(update={"ha": HaPolicy(restart=restart, priority=priority)})


def fenced(site: Site, name: str, by: FencedBy = FencedBy.DEVICE) -> HostFenced:
    return HostFenced(
        node=name,
        incident_id=INCIDENT,
        by=by,
        scope=FenceScope.RESTARTED if by is FencedBy.LEASE else FenceScope.ALL,
        agent_id=site.nodes[name].agent_id,
        at=site.clock.now(),
    )


async def die(site: Site, name: str) -> HostFenced:
    """The host is dead and ha-monitor has made sure of it; returns what it will say."""
    event = fenced(site, name)
    site.nodes[name].lose_power()
    await health(site, HostDown, name, 1)
    return event


async def health(site: Site, kind: type[HostDown] | type[HostUp], name: str, number: int) -> None:
    fact = kind(node=name, sequence=number, since=site.clock.now(), reason="A test says so.")
    await site.tell(fact)


async def three_on_one(site: Site) -> list[UUID]:
    """Desktops of priority 10, 90 and 50 (never restarted) on n1, and an empty n2."""
    await site.add_node("n1")
    specs = [ranked(10), ranked(90), ranked(50, restart=False)]
    desktops = [await site.create(number + 1, spec=spec) for number, spec in enumerate(specs)]
    await site.settle()
    await site.add_node("n2")
    return desktops


async def test_desktops_of_a_fenced_host_start_elsewhere_by_priority(site: Site) -> None:
    low, high, never = await three_on_one(site)
    event = await die(site, "n1")
    await site.settle()
    assert (await site.row(low)).state is DesktopState.UNKNOWN
    await site.collect()
    before = len(site.said)
    await site.tell(event)
    await site.reconcile()
    spoken = (await site.collect(), site.said[before:])[1]
    commands = [(one.desktop_id, node) for one, node in spoken if isinstance(one, EnsureDesktop)]
    assert commands == [(high, "n2"), (low, "n2")]
    (lost,) = await site.spoken(HostDesktopsLost)
    assert lost.incident_id == INCIDENT
    assert {one.desktop_id: one.restart for one in lost.desktops} == {
        low: True,
        high: True,
        never: False,
    }
    stopped = {one.desktop.id: one for one in await site.spoken(DesktopStopped)}
    assert all(one.reason is StopReason.HOST_FAILED for one in stopped.values())
    assert {one for one, event in stopped.items() if event.desktop.restarting} == {low, high}
    assert (await site.row(never)).power is Power.OFF
    # The commands were collected and not carried out: they are told again.
    await site.pass_time(11)
    assert {one.desktop.id for one in await site.spoken(DesktopRestarted)} == {low, high}
    for one in (low, high):
        row = await site.row(one)
        assert (row.state, row.host, row.restarting) == (DesktopState.RUNNING, "n2", False)


async def test_the_news_twice_or_after_the_host_is_back_changes_nothing(site: Site) -> None:
    low, high, _ = await three_on_one(site)
    event = await die(site, "n1")
    message_id = uuid4()
    await site.tell(event, message_id=message_id)
    await site.tell(event, message_id=message_id)
    await site.settle()
    await site.tell(event)
    await site.settle()
    assert (await site.row(low)).host == (await site.row(high)).host == "n2"
    assert [len(one.desktops) for one in await site.spoken(HostDesktopsLost)] == [3, 0]

    back = await site.create(4, spec=ranked(1))
    await site.settle()
    await health(site, HostUp, "n1", 2)
    site.clock.advance(1)
    await site.tell(site.nodes["n1"].report())
    site.nodes["n2"].refuses = None
    moved = await site.create(5, spec=SMALL.model_copy(update={"memory_mib": 6144}))
    await site.settle()
    assert (await site.row(moved)).host == "n1"
    await site.tell(event)
    await site.settle()
    assert (await site.row(moved)).host == "n1", "the run that was fenced is not this one"
    assert (await site.row(back)).host == "n2"


async def test_a_host_that_returns_gets_nothing_before_it_is_clean(site: Site) -> None:
    low, _, _ = await three_on_one(site)
    node = site.nodes["n1"]
    event = fenced(site, "n1", FencedBy.HUMAN)
    await health(site, HostDown, "n1", 1)
    await site.tell(event)
    await site.settle()
    assert (await site.row(low)).host == "n2"
    # It was never switched off: the person was wrong, and it comes back with everything.
    await health(site, HostUp, "n1", 2)
    await site.tell(node.report())
    await site.settle()
    assert node.running() == set(), "what belongs elsewhere was taken away"
    site.clock.advance(1)
    await site.tell(node.report())
    assert (await site.host("n1")).fenced, "the run that was fenced cannot say that it is clean"
    node.restart_agent()
    site.clock.advance(1)
    await site.tell(node.report())
    assert not (await site.host("n1")).fenced


async def test_commands_name_the_run_and_are_told_again_to_the_next_one(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await site.create()
    await site.reconcile()
    for message, _ in await site.collect():  # its disk is made; the command to the node is lost
        for answer in site.answer(message, None):
            await site.tell(answer)
    await site.reconcile()
    told = [one for one, _ in await site.collect() if isinstance(one, EnsureDesktop)]
    assert [one.agent_id for one in told] == [node.agent_id]
    node.restart_agent()
    assert node.take(told[0]) is None, "a command to the earlier run is void"
    site.clock.advance(0.1)
    await site.tell(node.report())
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.RUNNING
    assert node.commands[-1].agent_id == node.agent_id


async def test_what_does_not_fit_waits_and_goes_first_when_there_is_room(site: Site) -> None:
    big = {"memory_mib": 5 * 1024}
    await site.add_node("n1", memory_mib=16 * 1024)
    low = await site.create(1, spec=ranked(10).model_copy(update=big))
    high = await site.create(2, spec=ranked(90).model_copy(update=big))
    await site.settle()
    await site.add_node("n2")
    await site.tell(await die(site, "n1"))
    await site.settle()
    waiting = await site.row(low)
    assert (await site.row(high)).host == "n2"
    assert (waiting.host, waiting.restarting) == (None, True)
    assert waiting.problem is not None
    assert waiting.problem.code == "placement.no-capacity"
    stranger = await site.create(3, spec=SMALL.model_copy(update=big))
    await site.settle()
    await site.add_node("n3")
    await site.settle()
    assert (await site.row(low)).host == "n3"
    assert (await site.row(stranger)).host is None


async def test_what_fails_again_and_again_is_left_with_its_reason(site: Site) -> None:
    node = await site.add_node("n1")
    desktop = await site.create()
    await site.settle()
    await site.row(desktop)
    for _ in range(GIVE_UP):
        if node.running():
            await site.tell(node.stop(desktop, StopReason.CRASHED))
        await site.settle()
        await site.pass_time(125)
    row = await site.row(desktop)
    assert row.problem is not None
    assert row.problem.code == "desktop.given-up"
    await site.pass_time(timedelta(hours=2).total_seconds())
    assert not node.running()
