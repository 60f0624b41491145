"""Clusters and the loop that carries their policies out, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.integration.inventory.conftest import NewCopy, bearer
from tests.integration.inventory.site import Site

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState, DomainStats, Power, SetDesktopPower
from roost_common.contracts.host import (
    HostPower,
    HostPoweredOff,
    HostPoweredOn,
    HostPowerRefused,
    HostState,
    HostStats,
    HostUp,
    SetHostPower,
)
from roost_common.contracts.migration import MigrateDesktop
from roost_common.contracts.spec import DesktopSpec
from roost_common.lease import Lease
from roost_common.outbox import Transaction
from roost_common.security import Role
from roost_inventory.balancer import LEASE, Balancer, Commands
from roost_inventory.migrating import Migrating
from roost_inventory.model import Migration
from roost_inventory.model.host_power import ASK_AGAIN
from roost_inventory.model.migration import Cause, MigrationState
from roost_inventory.power_saving import REFUSED_FOR
from roost_inventory.scheduling import Migrate, PowerOff

pytestmark = pytest.mark.integration

SAVING: dict[str, Any] = {
    "policy": "power_saving",
    "reserve_hosts": 0,
    "reserve_percent": 0,
    "awake_s": 0,
    "duration_s": 60,
}


class Failing(Commands):
    """Every migration fails at once, or cannot even begin."""

    def __init__(self, site: Site) -> None:
        super().__init__(Migrating(site.unit, site.settings, lambda: None))
        self.site = site
        self.moves: list[Migrate] = []
        self.possible = True

    async def migrate(self, transaction: Transaction, move: Migrate) -> bool:
        """Begun, and failed at once."""
        if self.possible:
            self.moves.append(move)
            now = self.site.clock.now()
            migration = Migration.begun(
                desktop_id=move.desktop_id,
                desktop_name=move.desktop,
                source=move.from_host,
                target=move.to_host,
                target_address="",
                target_agent=UUID(int=0),
                cause=Cause.BALANCE,
                reason=move.reason,
                boot_id=UUID(int=0),
                generation=0,
                now=now,
                deadline=timedelta(0),
            )
            migration.state, migration.ended_at = MigrationState.FAILED, now
            transaction.session.add(migration)
        return self.possible


class Keeper:
    """One copy's balancer, and the nodes' reports."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.migrations = Failing(site)
        self.stats: dict[str, HostStats] = {}
        self.desktop_stats: dict[UUID, DomainStats] = {}
        lease = Lease(LEASE, site.unit, site.clock)
        self.balancer = Balancer(site.unit, site.settings, lease, self.migrations)

    async def pass_time(self, seconds: float, *, report: bool = True) -> None:
        """Passes every half minute, with a report of each living node before."""
        for _ in range(int(seconds) // 30):
            self.site.clock.advance(30)
            for name in self.site.nodes if report else ():
                await self.report(name)
            await self.balancer.renew()
            await self.balancer.step()
            await self.site.settle()

    async def report(self, name: str) -> None:
        report = self.site.nodes[name].report()
        domains = tuple(
            one.model_copy(update={"stats": self.desktop_stats.get(one.desktop_id)})
            for one in report.domains
        )
        stats = self.stats.get(name, HostStats())
        await self.site.tell(report.model_copy(update={"stats": stats, "domains": domains}))

    async def orders(self) -> list[SetHostPower]:
        return await self.site.spoken(SetHostPower)


NewKeeper = Callable[[], Keeper]


@pytest.fixture
def keeper(site: Site) -> Keeper:
    return Keeper(site)


async def schedule(http: httpx.AsyncClient, name: str = "default", **scheduling: Any) -> None:
    answer = await http.patch(f"/api/v1/clusters/{name}", json={"scheduling": scheduling})
    assert answer.status_code == 200, answer.text


def health(kind: type[Any], node: str, sequence: int, site: Site) -> Any:
    return kind(node=node, sequence=sequence, since=site.clock.now(), reason="")


def refusal(of: SetHostPower) -> HostPowerRefused:
    problem = Problem(code="fencing.no-device", detail="It has no fence device.")
    return HostPowerRefused(node=of.node, power=of.power, order=of.order, problem=problem)


# --- clusters ---------------------------------------------------------------------------------


async def test_the_default_cluster_is_always_there(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1")
    (only,) = (await http.get("/api/v1/clusters")).json()["items"]
    assert (only["name"], only["hosts"]) == ("default", ["n1"])
    assert only["scheduling"]["policy"] == "none"
    assert (await http.get("/api/v1/hosts/n1")).json()["cluster"] == "default"
    gone = await http.delete("/api/v1/clusters/default")
    assert (gone.status_code, gone.json()["code"]) == (409, "cluster.default")
    other = await http.patch("/api/v1/clusters/default", json={"name": "other"})
    assert (other.status_code, other.json()["code"]) == (409, "cluster.default")


async def test_a_clusters_way(http: httpx.AsyncClient, site: Site) -> None:
    await site.add_node("n1")
    wanted = {"name": "lab", "scheduling": {"policy": "even", "cpu_high_percent": 70}}
    key = {"Idempotency-Key": "once"}
    made = await http.post("/api/v1/clusters", json=wanted, headers=key)
    assert made.status_code == 201
    cluster = made.json()
    assert made.headers["Location"] == f"/api/v1/clusters/{cluster['id']}"
    again = await http.post("/api/v1/clusters", json=wanted, headers=key)
    assert again.json() == cluster
    taken = await http.post("/api/v1/clusters", json=wanted)
    assert (taken.status_code, taken.json()["code"]) == (409, "cluster.name-taken")
    assert cluster["scheduling"]["cpu_high_percent"] == 70
    assert cluster["scheduling"]["duration_s"] == 120

    changed = await http.patch(
        f"/api/v1/clusters/{cluster['id']}",
        json={"name": "lab2", "description": "of the lab", "scheduling": {"rest_s": 60}},
    )
    assert changed.json()["scheduling"]["rest_s"] == 60
    assert changed.json()["scheduling"]["cpu_high_percent"] == 70
    clash = await http.patch("/api/v1/clusters/lab2", json={"name": "default"})
    assert (clash.status_code, clash.json()["code"]) == (409, "cluster.name-taken")

    moved = await http.patch("/api/v1/hosts/n1", json={"cluster": "lab2"})
    assert (moved.status_code, moved.json()["cluster"]) == (200, "lab2")
    held = await http.delete("/api/v1/clusters/lab2")
    assert (held.status_code, held.json()["code"]) == (409, "cluster.has-hosts")
    nowhere = await http.patch("/api/v1/hosts/n1", json={"cluster": "nowhere"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "cluster.unknown")
    await http.patch("/api/v1/hosts/n1", json={"cluster": "default"})
    assert (await http.delete("/api/v1/clusters/lab2")).status_code == 204
    assert (await http.get("/api/v1/clusters/lab2")).status_code == 404


@pytest.mark.parametrize(
    ("scheduling", "where"),
    [
        ({"cpu_high_percent": 49}, "scheduling.cpu_high_percent"),
        ({"policy": "magic"}, "scheduling.policy"),
        ({"memory_low_percent": 89, "memory_high_percent": 60}, "scheduling"),
        ({"surprise": 1}, "scheduling.surprise"),
    ],
)
async def test_parameters_that_make_no_sense_are_refused(
    http: httpx.AsyncClient, scheduling: dict[str, Any], where: str
) -> None:
    for answer in (
        await http.patch("/api/v1/clusters/default", json={"scheduling": scheduling}),
        await http.post("/api/v1/clusters/default/dry-run", json={"scheduling": scheduling}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "cluster.invalid")
        assert answer.json()["where"] == where


async def test_clusters_are_for_administrators(http: httpx.AsyncClient) -> None:
    ann = bearer("ann", Role.USER)
    assert (await http.get("/api/v1/clusters", headers=ann)).status_code == 403
    assert (await http.post("/api/v1/clusters/default/dry-run", headers=ann)).status_code == 403


async def test_desktops_are_placed_after_the_clusters_fashion(
    http: httpx.AsyncClient, site: Site
) -> None:
    await site.add_node("n1")
    await site.add_node("n2")
    for number in (1, 2):
        await site.create(number)
        await site.settle()
    assert {(await site.row(UUID(int=n))).host for n in (1, 2)} == {"n1", "n2"}
    await schedule(http, policy="power_saving")
    for number in (3, 4, 5):
        await site.create(number)
        await site.settle()
    assert len({(await site.row(UUID(int=n))).host for n in (3, 4, 5)}) == 1


# --- what is moved ----------------------------------------------------------------------------


async def heat(site: Site, keeper: Keeper) -> None:
    """Two busy desktops on n1, and n2 empty."""
    await site.add_node("n1")
    for number in (1, 2):
        await site.create(number, spec=DesktopSpec(vcpus=4, memory_mib=1024 * number))
        await site.settle()
        keeper.desktop_stats[UUID(int=number)] = DomainStats(cpu_percent=90, memory_used_mib=800)
    await site.add_node("n2")
    keeper.stats["n1"] = HostStats(cpu_percent=92, memory_used_mib=2000)


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await heat(site, keeper)
    await keeper.pass_time(180)
    idle = (await http.post("/api/v1/clusters/default/dry-run")).json()
    assert (idle["actions"], idle["notes"]) == ([], [])
    trial = {"scheduling": {"policy": "even"}}
    tried = (await http.post("/api/v1/clusters/default/dry-run", json=trial)).json()
    assert tried["scheduling"]["policy"] == "even"
    assert tried["actions"] == [
        {
            "action": "migrate",
            "desktop": "d1",
            "from_host": "n1",
            "host": "n2",
            "reason": "n1 uses 92 % of its processors (80 % is hot), d1 45 %; n2 has room for it. "
            "800 MiB are copied.",
        }
    ]
    assert (await http.get("/api/v1/clusters/default")).json()["scheduling"]["policy"] == "none"
    await keeper.pass_time(60)
    assert keeper.migrations.moves == []


async def test_a_hot_host_is_relieved_once_and_measured_anew(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await heat(site, keeper)
    await schedule(http, policy="even")
    await keeper.pass_time(120)
    assert keeper.migrations.moves == []  # hot, but not for two minutes yet
    await keeper.pass_time(60)
    assert [(one.desktop, one.from_host, one.to_host) for one in keeper.migrations.moves] == [
        ("d1", "n1", "n2")
    ]
    # It fails, and the host stays hot: the other one is tried, after another measurement.
    await keeper.pass_time(90)
    assert len(keeper.migrations.moves) == 1
    await keeper.pass_time(60)
    assert [one.desktop for one in keeper.migrations.moves] == ["d1", "d2"]


async def test_a_move_that_is_not_possible_leaves_no_trace(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await heat(site, keeper)
    await schedule(http, policy="even")
    keeper.migrations.possible = False
    await keeper.pass_time(300)
    assert all(row["changed_at"] is None for row in await site.rows("host_watches"))
    keeper.migrations.possible = True
    await keeper.pass_time(30)
    assert len(keeper.migrations.moves) == 1
    assert all(row["changed_at"] for row in await site.rows("host_watches"))


async def test_a_move_is_a_migration_like_any_other(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await heat(site, keeper)
    await schedule(http, policy="even")
    await keeper.pass_time(120)
    keeper.balancer._orders = Commands(Migrating(site.unit, site.settings, lambda: None))
    await keeper.pass_time(60)
    (sent,) = {one.migration_id: one for one in await site.spoken(MigrateDesktop)}.values()
    assert (sent.desktop_id, sent.target_node) == (UUID(int=1), "n2")
    desktop = await site.row(UUID(int=1))
    assert (desktop.host, desktop.migrating_to) == ("n1", "n2")
    # While it is on its way nothing else is begun, and n2 is not empty.
    run = (await http.post("/api/v1/clusters/default/dry-run")).json()
    assert run["actions"] == []
    assert not await keeper.balancer._carry_out(PowerOff("n2", ""))


# --- what is switched -------------------------------------------------------------------------


async def saving_site(http: httpx.AsyncClient, site: Site, keeper: Keeper) -> SetHostPower:
    """d1 on n1; n2 is empty, and was ordered off: the order."""
    await site.add_node("n1")
    await site.create(1)
    await site.settle()
    await site.add_node("n2")
    await schedule(http, **SAVING)
    await keeper.pass_time(120)
    (order,) = await keeper.orders()
    assert (order.node, order.power) == ("n2", HostPower.OFF)
    assert order.agent_id == site.nodes["n2"].agent_id
    return order


async def test_an_empty_host_sleeps_and_is_woken_when_its_room_is_needed(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await saving_site(http, site, keeper)
    # Still beating, it takes nothing any more.
    assert (await site.host("n2")).state is HostState.OFF
    big = DesktopSpec(vcpus=1, memory_mib=8000)
    waits = await site.create(2, spec=big)
    await site.settle()
    assert (await site.row(waits)).host is None
    await keeper.pass_time(60)
    assert len(await keeper.orders()) == 1  # not woken before it is known to be off

    await site.tell(health(HostPoweredOff, "n2", 1, site))
    n2 = site.nodes.pop("n2")
    await keeper.pass_time(30)
    off, on = await keeper.orders()
    assert (on.power, on.order > off.order, on.agent_id) == (HostPower.ON, True, None)
    await site.tell(health(HostPoweredOn, "n2", 2, site))
    assert (await site.host("n2")).state is HostState.OFF
    await keeper.pass_time(60)
    assert len(await keeper.orders()) == 2  # it is on its way
    n2.lose_power()
    site.nodes["n2"] = n2
    await site.tell(n2.report())
    await site.tell(health(HostUp, "n2", 3, site))
    assert (await site.host("n2")).state is HostState.UP
    await site.settle()
    assert (await site.row(waits)).state is DesktopState.RUNNING
    assert (await site.row(waits)).host == "n2"


async def test_a_host_that_cannot_be_switched_off_is_left_alone_for_a_while(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    first = await saving_site(http, site, keeper)
    await site.tell(refusal(first))
    assert (await site.host("n2")).state is HostState.UP
    await keeper.pass_time(REFUSED_FOR.total_seconds() - 60)
    assert await keeper.orders() == [first]
    await keeper.pass_time(90)
    _, second = await keeper.orders()
    assert second.order > first.order
    # An answer to the first order that comes late says nothing of the second.
    await site.tell(refusal(first))
    assert (await site.host("n2")).state is HostState.OFF


async def test_a_host_that_is_enrolled_anew_gives_no_number_twice(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    first = await saving_site(http, site, keeper)
    await site.tell(health(HostPoweredOff, "n2", 1, site))
    assert (await http.delete("/api/v1/hosts/n2")).status_code == 204
    await site.tell(health(HostUp, "n2", 2, site))
    await keeper.pass_time(120)
    _, second = await keeper.orders()
    assert second.order > first.order


async def test_a_host_that_could_not_be_woken_sleeps_on(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await saving_site(http, site, keeper)
    await site.tell(health(HostPoweredOff, "n2", 1, site))
    del site.nodes["n2"]
    await site.create(2, spec=DesktopSpec(vcpus=1, memory_mib=8000))
    await site.settle()
    await keeper.pass_time(30)
    await site.tell(refusal((await keeper.orders())[-1]))
    await keeper.pass_time(240)
    assert len(await keeper.orders()) == 2
    await keeper.pass_time(90)
    assert [o.power for o in await keeper.orders()] == [HostPower.OFF, HostPower.ON, HostPower.ON]


async def test_an_order_without_answer_is_repeated_under_its_number(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    order = await saving_site(http, site, keeper)
    await keeper.pass_time(ASK_AGAIN.total_seconds() + 30)
    assert await keeper.orders() == [order, order]
    await site.tell(health(HostPoweredOff, "n2", 1, site))
    await keeper.pass_time(2 * ASK_AGAIN.total_seconds(), report=False)
    assert len(await keeper.orders()) == 2


async def test_the_end_of_power_saving_wakes_the_host(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await saving_site(http, site, keeper)
    await site.tell(health(HostPoweredOff, "n2", 1, site))
    del site.nodes["n2"]
    await schedule(http, policy="none")
    await keeper.pass_time(30)
    assert (await keeper.orders())[-1].power is HostPower.ON


async def test_a_host_that_somebody_woke_is_up(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await saving_site(http, site, keeper)
    await site.tell(health(HostPoweredOff, "n2", 1, site))
    await site.tell(health(HostUp, "n2", 2, site))
    host = await site.host("n2")
    assert (host.state, host.power) == (HostState.UP, HostPower.ON)


async def test_a_host_with_a_domain_that_nobody_ordered_stays_awake(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await site.add_node("n1")
    await site.create(1)
    await site.settle()
    stranger = await site.add_node("n2")
    stranger.domains[UUID(int=99)] = site.nodes["n1"].domains[UUID(int=1)]
    await schedule(http, **SAVING)
    await keeper.pass_time(300)
    assert await keeper.orders() == []
    del stranger.domains[UUID(int=99)]
    await keeper.pass_time(60)
    assert len(await keeper.orders()) == 1


async def test_a_desktop_that_comes_first_keeps_its_host_awake(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await site.add_node("n1")
    await keeper.pass_time(60)
    await site.create(1)
    await site.settle()
    assert not await keeper.balancer._carry_out(PowerOff("n1", ""))
    assert (await site.host("n1")).state is HostState.UP
    await site.tell(SetDesktopPower(desktop_id=UUID(int=1), power=Power.OFF))
    await site.settle()


async def test_placement_and_switching_off_at_once(
    http: httpx.AsyncClient, site: Site, keeper: Keeper, new_copy: NewCopy
) -> None:
    other = new_copy()
    await site.add_node("n1")
    await site.add_node("n2")
    await keeper.pass_time(60)
    for number in range(1, 9):
        desktop = await site.create(number)
        await site.reconcile()
        for message, node in await site.collect():
            for answer in site.answer(message, node):
                await site.tell(answer)
        ordered, _ = await asyncio.gather(
            keeper.balancer._carry_out(PowerOff("n2", "")), other.reconcile()
        )
        await site.settle()
        if ordered:
            assert {(await site.row(UUID(int=n))).host for n in range(1, number + 1)} == {"n1"}
            return
        if (await site.row(desktop)).host == "n2":
            return
    raise AssertionError("neither came first")


# --- one at a time ----------------------------------------------------------------------------


async def test_only_the_holder_of_the_lease_acts(
    http: httpx.AsyncClient, site: Site, keeper: Keeper, new_copy: NewCopy
) -> None:
    second = Keeper(new_copy())
    await heat(site, keeper)
    await schedule(http, policy="even")
    await keeper.balancer.renew()
    await second.balancer.renew()
    await second.balancer.step()
    assert await site.rows("host_watches") == []
    await keeper.balancer.step()
    assert len(await site.rows("host_watches")) == 2
    await keeper.balancer.release()
    await second.balancer.renew()
    site.clock.advance(1)
    await second.balancer.step()
    samples = [row["samples"] for row in await site.rows("host_watches")]
    assert all(samples)


async def test_a_desktop_in_the_same_cluster_only(
    http: httpx.AsyncClient, site: Site, keeper: Keeper
) -> None:
    await heat(site, keeper)
    await http.post("/api/v1/clusters", json={"name": "other"})
    await http.patch("/api/v1/hosts/n2", json={"cluster": "other"})
    await schedule(http, policy="even")
    await keeper.pass_time(300)
    assert keeper.migrations.moves == []
    run = (await http.post("/api/v1/clusters/default/dry-run")).json()
    assert run["notes"] == ["n1 is hot, and no move helps or may begin now."]
    asked = await http.post("/api/v1/desktops/d1/migrate", json={"host": "n2"})
    assert (asked.status_code, asked.json()["code"]) == (409, "migration.other-cluster")
    chosen = await http.post("/api/v1/desktops/d1/migrate", json={})
    assert (chosen.status_code, chosen.json()["code"]) == (409, "placement.no-host")
