"""Two copies of inventory at once, on connections of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.integration.inventory.site import Site
from tests.polling import eventually
from tests.unit.inventory.stage import FakeNode

from roost_common.contracts.desktop import (
    DeleteDesktop,
    DesktopCreated,
    DesktopCreateRefused,
    DesktopStartRefused,
    DesktopState,
    EnsureDesktop,
    Power,
    SetDesktopPower,
)
from roost_common.contracts.host import HostDown, HostEnrolled, HostUp
from roost_common.db import translated
from roost_common.errors import Conflict
from roost_inventory.model import Desktop, Host

pytestmark = pytest.mark.integration

NewCopy = Callable[..., Site]


async def waiting_for_locks(site: Site) -> int:
    """How many of this database's connections wait for a lock now."""
    query = sa.text(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    async with site.database.engine.connect() as connection:
        return int(await connection.scalar(query) or 0)


async def ready_to_place(site: Site, count: int) -> list[UUID]:
    """Desktops whose next step is to be given a host."""
    made = [await site.create(number) for number in range(1, count + 1)]
    await site.reconcile()
    for message, node in await site.collect():
        for answer in site.answer(message, node):
            await site.tell(answer)
    return made


async def test_two_starts_never_share_the_last_gigabyte(new_copy: NewCopy) -> None:
    first, second = new_copy(batch=1), new_copy(batch=1)
    await first.add_node("n1", memory_mib=1024)
    desktops = await ready_to_place(first, 2)
    # Both are held up at the same place: each has a desktop in hand and wants the hosts.
    async with first.database.engine.connect() as gate:
        await gate.execute(sa.select(Host.id).with_for_update())
        steps = [asyncio.create_task(copy.reconciler.step()) for copy in (first, second)]

        async def both_wait() -> bool:
            return await waiting_for_locks(first) == 2

        await eventually(both_wait, "both copies wait for the hosts")
        await gate.rollback()
        await asyncio.gather(*steps)
    rows = [await first.row(desktop) for desktop in desktops]
    assert sorted(row.reserved_memory_mib for row in rows) == [0, 1024]
    assert len(await first.spoken(EnsureDesktop)) == 1
    (refused,) = await first.spoken(DesktopStartRefused)
    assert refused.desktop.problem is not None
    assert refused.desktop.problem.code == "placement.no-capacity"


async def test_two_copies_share_the_work_and_do_none_of_it_twice(new_copy: NewCopy) -> None:
    copies = [new_copy(batch=10), new_copy(batch=10)]
    await copies[0].add_node("n1", memory_mib=1 << 20, cpus=96)
    desktops = await ready_to_place(copies[0], 60)
    await asyncio.gather(*(copy.reconcile() for copy in copies))
    told = [command.desktop_id for command in await copies[0].spoken(EnsureDesktop)]
    assert sorted(told) == sorted(desktops)


async def test_the_loop_passes_by_what_somebody_else_has_in_hand(site: Site) -> None:
    first, second = await site.create(1), await site.create(2)
    async with site.database.engine.connect() as other:
        held = sa.select(Desktop.id).where(Desktop.id == first).with_for_update()
        await other.execute(held)
        await asyncio.wait_for(site.reconciler.step(), timeout=5)
        await other.rollback()
    assert (await site.row(first)).asks == 0
    assert (await site.row(second)).asks == 1


async def test_one_name_ordered_twice_at_once_makes_one_desktop(new_copy: NewCopy) -> None:
    copies = [new_copy(), new_copy()]
    for round_number in range(10):
        name = f"d{round_number}"
        await asyncio.gather(
            *(
                copy.create(10 * round_number + 1 + number, name=name)
                for number, copy in enumerate(copies)
            )
        )
    assert len(await copies[0].spoken(DesktopCreated)) == 10
    assert len(await copies[0].spoken(DesktopCreateRefused)) == 10


async def test_one_command_handled_twice_at_once_makes_one_desktop(new_copy: NewCopy) -> None:
    copies = [new_copy(), new_copy()]
    for number in range(1, 11):
        await asyncio.gather(*(copy.create(number) for copy in copies))
    assert len(await copies[0].spoken(DesktopCreated)) == 10
    assert await copies[0].spoken(DesktopCreateRefused) == []


async def test_what_is_made_and_deleted_at_once_is_never_left_over(new_copy: NewCopy) -> None:
    copies = [new_copy(), new_copy()]
    for number in range(1, 11):
        delete = DeleteDesktop(desktop_id=UUID(int=number))
        await asyncio.gather(copies[0].create(number), copies[1].tell(delete, redelivered=True))
    left = [row for row in await copies[0].rows("desktops") if not row["deleting"]]
    assert left == []


async def test_a_node_heard_by_two_copies_at_once_is_enrolled_once(new_copy: NewCopy) -> None:
    copies = [new_copy(), new_copy()]
    for number in range(10):
        node = FakeNode(f"n{number}", copies[0].clock)
        reports = [node.report(), node.report()]
        await asyncio.gather(
            *(copy.tell(report) for copy, report in zip(copies, reports, strict=True))
        )
    assert len(await copies[0].spoken(HostEnrolled)) == 10


async def test_a_host_that_gets_a_desktop_cannot_be_removed(new_copy: NewCopy) -> None:
    """Removal and assignment at once: the host's row keeps one of them back."""
    site = new_copy()
    await site.add_node("n1")
    (desktop,) = await ready_to_place(site, 1)

    async def remove() -> None:
        async with translated(), site.database.sessions() as session:
            host = await session.scalar(sa.select(Host).with_for_update())
            await session.delete(host)
            await session.commit()

    results = await asyncio.gather(remove(), site.reconciler.step(), return_exceptions=True)
    row = await site.row(desktop)
    if row.host is None:
        assert await site.rows("hosts") == []
    else:
        assert isinstance(results[0], Conflict)


async def nobody_is_overbooked(site: Site) -> None:
    use: dict[str, int] = {}
    for one in await site.rows("desktops"):
        if one["host"] is not None:
            use[one["host"]] = use.get(one["host"], 0) + one["reserved_memory_mib"]
    assert all(memory <= 8 * 1024 for memory in use.values())


async def test_everything_at_once_neither_deadlocks_nor_overbooks(new_copy: NewCopy) -> None:
    random = Random(5)
    copies = [new_copy(batch=7), new_copy(batch=7)]
    names = ["n1", "n2"]
    nodes = [await copies[0].add_node(name, memory_mib=8 * 1024) for name in names]
    desktops = [await copies[0].create(number) for number in range(1, 21)]
    sequence = 1
    for _ in range(12):
        spoken = await copies[0].collect()
        work: list[Awaitable[Any]] = [copy.reconciler.step() for copy in copies]
        for message, where in spoken:
            for node in nodes:
                copies[0].nodes[node.name] = node
            for answer in copies[0].answer(message, where):
                work.append(random.choice(copies).tell(answer))
        for node in nodes:
            work.append(random.choice(copies).tell(node.report()))
            sequence += 1
            kind = random.choice([HostDown, HostUp])
            since = copies[0].clock.now()
            fact = kind(node=node.name, sequence=sequence, since=since, reason="test")
            work.append(random.choice(copies).tell(fact))
        for desktop in random.sample(desktops, 4):
            power = random.choice(list(Power))
            order = SetDesktopPower(desktop_id=desktop, power=power)
            work.append(random.choice(copies).tell(order))
        random.shuffle(work)
        await asyncio.gather(*work)
        copies[0].clock.advance(3)
        await nobody_is_overbooked(copies[0])
    since = copies[0].clock.now()
    for node in nodes:
        await copies[0].tell(HostUp(node=node.name, sequence=999, since=since, reason="test"))
    for _ in range(12):
        await copies[0].pass_time(20)
        for node in nodes:
            for one in [d for d, domain in node.domains.items() if domain.asked_to_stop]:
                await copies[0].tell(node.shut_down(one))
    for desktop in desktops:
        row = await copies[0].row(desktop)
        there = [node.name for node in nodes if desktop in node.domains]
        assert row.state in (DesktopState.RUNNING, DesktopState.STOPPED, DesktopState.STARTING)
        assert there == ([row.host] if row.state is DesktopState.RUNNING else [])
        if row.state is DesktopState.STARTING:
            assert row.problem is not None
            assert row.problem.code == "placement.no-capacity"
