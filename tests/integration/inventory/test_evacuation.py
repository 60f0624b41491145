"""Hosts that are emptied for maintenance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest
from tests.integration.inventory.site import Site

from roost_common.contracts.desktop import DesktopState, Power, SetDesktopPower
from roost_common.contracts.host import HostMaintenance, HostState
from roost_inventory.evacuation import Evacuations
from roost_inventory.migrating import Migrating

pytestmark = pytest.mark.integration

NewCopy = Callable[..., Site]


def loop(site: Site) -> Evacuations:
    """The loop of one copy."""
    migrating = Migrating(site.unit, site.settings, lambda: None)
    return Evacuations(site.unit, site.settings, migrating)


async def occupied(site: Site, count: int = 3) -> list[UUID]:
    """So many desktops, all on n1."""
    await site.add_node("n1")
    desktops = [await site.create(number) for number in range(1, count + 1)]
    await site.settle()
    return desktops


async def evacuation(http: httpx.AsyncClient) -> dict[str, object]:
    """How far n1 is."""
    answer: dict[str, object] = (await http.get("/api/v1/hosts/n1")).json()["evacuation"]
    return answer


async def test_three_desktops_leave_two_at_a_time(http: httpx.AsyncClient, site: Site) -> None:
    desktops = await occupied(site)
    await site.add_node("n2")
    answer = await http.post("/api/v1/hosts/n1/maintenance")
    assert (answer.status_code, answer.json()["state"]) == (200, "preparing_maintenance")
    await loop(site).step()
    await site.settle()
    assert len(site.movers.moves) == 2
    assert {**await evacuation(http), "since": 0} == {
        "since": 0,
        "left": 3,
        "moving": 2,
        "problem": None,
    }
    await loop(site).step()
    await site.settle()
    assert len(site.movers.moves) == 2
    while site.movers.moves:
        await site.arrive(next(iter(site.movers.moves)))
        await loop(site).step()
        await site.settle()
    assert {(await site.row(one)).host for one in desktops} == {"n2"}
    assert (await site.host("n1")).state is HostState.MAINTENANCE
    assert len(await site.spoken(HostMaintenance)) == 1
    host = (await http.get("/api/v1/hosts/n1")).json()
    assert (host["desktops"], host["evacuation"]) == (0, None)
    moved = (await http.get("/api/v1/migrations", params={"host": "n1"})).json()["items"]
    assert [one["cause"] for one in moved] == ["maintenance"] * 3


async def test_two_loops_do_it_once(http: httpx.AsyncClient, site: Site, new_copy: NewCopy) -> None:
    await occupied(site)
    await site.add_node("n2")
    await http.post("/api/v1/hosts/n1/maintenance")
    loops = [loop(site), loop(new_copy())]
    for _ in range(4):
        await asyncio.gather(*(one.step() for one in loops))
        await site.settle()
        assert len(site.movers.moves) <= 2
        for desktop in list(site.movers.moves):
            await site.arrive(desktop)
    await asyncio.gather(*(one.step() for one in loops))
    assert (await http.get("/api/v1/migrations")).json()["total"] == 3
    assert (await site.host("n1")).state is HostState.MAINTENANCE
    assert len(await site.spoken(HostMaintenance)) == 1


async def test_what_finds_no_room_is_named_and_tried_again(
    http: httpx.AsyncClient, site: Site
) -> None:
    await occupied(site)
    await site.add_node("n2", memory_mib=1024)
    await http.post("/api/v1/hosts/n1/maintenance")
    for _ in range(4):
        await loop(site).step()
        await site.settle()
        for desktop in list(site.movers.moves):
            await site.arrive(desktop)
    told = await evacuation(http)
    assert (told["left"], told["moving"]) == (2, 0)
    problem = told["problem"]
    assert isinstance(problem, dict)
    assert problem["code"] == "host.desktops-stay"
    assert (await site.host("n1")).state is HostState.PREPARING_MAINTENANCE
    await site.add_node("n3")
    await site.pass_time(20)
    for _ in range(3):
        await loop(site).step()
        await site.settle()
        for desktop in list(site.movers.moves):
            await site.arrive(desktop)
    await loop(site).step()
    assert (await site.host("n1")).state is HostState.MAINTENANCE


async def test_one_that_is_refused_again_and_again_is_named(
    http: httpx.AsyncClient, site: Site
) -> None:
    [desktop] = await occupied(site, 1)
    await site.add_node("n2")
    await http.post("/api/v1/hosts/n1/maintenance")
    for _ in range(3):
        await loop(site).step()
        await site.settle()
        for messages in site.movers.fail(desktop).values():
            for message in messages:
                await site.tell(message)
        await site.settle()
        site.clock.advance(1)
        await site.report_all()
        assert (await site.row(desktop)).migrating_to is None
        await loop(site).step()
        await site.settle()
        assert site.movers.moves == {}, "it rests before it is tried again"
        await site.pass_time(60)
    problem = (await evacuation(http))["problem"]
    assert isinstance(problem, dict)
    assert "d1 (The target said no.)" in problem["detail"]


async def test_what_starts_is_waited_for_and_what_stops_ends_there(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    stops, starts = await site.create(1), await site.create(2)
    await site.settle()
    await site.tell(SetDesktopPower(desktop_id=stops, power=Power.OFF))
    await site.settle()
    site.nodes["n1"].domains.pop(starts)
    site.nodes["n1"].removed.pop(starts, None)
    await site.add_node("n2")
    await site.tell(SetDesktopPower(desktop_id=starts, power=Power.ON))
    await http.post("/api/v1/hosts/n1/maintenance")
    assert (await site.row(stops)).state is DesktopState.STOPPING
    await loop(site).step()
    await site.settle()
    assert stops not in site.movers.moves
    await site.tell(site.nodes["n1"].shut_down(stops))
    await site.settle()
    for _ in range(3):
        await loop(site).step()
        await site.settle()
        for desktop in list(site.movers.moves):
            await site.arrive(desktop)
        site.clock.advance(15)
        await site.report_all()
    await loop(site).step()
    assert (await site.host("n1")).state is HostState.MAINTENANCE
    assert (await site.row(starts)).host == "n2"


async def test_activation_calls_them_back(http: httpx.AsyncClient, site: Site) -> None:
    desktops = await occupied(site, 2)
    await site.add_node("n2")
    await http.post("/api/v1/hosts/n1/maintenance")
    await loop(site).step()
    await site.settle()
    assert len(site.movers.moves) == 2
    answer = await http.post("/api/v1/hosts/n1/activate")
    assert (answer.json()["state"], answer.json()["evacuation"]) == ("up", None)
    await site.settle()
    assert site.movers.moves == {}
    site.clock.advance(1)
    await site.report_all()
    await loop(site).step()
    await site.settle()
    assert {(await site.row(one)).host for one in desktops} == {"n1"}
    states = (await http.get("/api/v1/migrations")).json()["items"]
    assert {one["state"] for one in states} == {"cancelled"}
    assert await site.spoken(HostMaintenance) == []
