"""Pools become what they should be."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DesktopNotFound,
    ReimageDesktop,
)
from roost_common.contracts.host import GuestSize, PlacementLimitsChanged
from roost_common.contracts.session import PoolChanged
from roost_common.contracts.template import TemplateDeleted

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("cheap_hashes")]


async def test_a_pool_fills_and_says_so(site: Any) -> None:
    await site.template()
    made = await site.pool(min=2, spare=1, max=4, spec={"vcpus": 2, "memory_mib": 512})
    assert made["spec"]["monitors"] == 1
    assert (made["pending_timeout_s"], made["disconnect_timeout_s"]) == (120, 3600)
    await site.settled(total=2, free=2)
    names = sorted(view.name for view in site.inventory.views.values())
    assert names == ["win-1", "win-2"]
    assert {view.spec.vcpus for view in site.inventory.views.values()} == {2}
    (event,) = await eventually(lambda: site.inventory.of(PoolChanged), "the pool is told of")
    assert (event.pool_name, event.revision, event.deleted) == ("win", 1, False)


async def test_it_grows_with_its_users_and_shrinks_after(ready_site: Any) -> None:
    site = ready_site
    ann = (await site.launch(site.ann, pool="win")).json()
    await site.settled(assigned=1, free=1, total=2)
    bob = (await site.launch(site.bob, pool="win")).json()
    await site.settled(assigned=2, free=1, total=3)
    for body in (ann, bob):
        await site.call("DELETE", f"/sessions/{body['session_id']}")
    await site.settled(assigned=0, free=1, total=1)


async def test_changing_sizes(ready_site: Any) -> None:
    site = ready_site
    answer = await site.call("PATCH", "/pools/win", json={"min": 3})
    assert (answer.status_code, answer.json()["revision"]) == (200, 3)
    await site.settled(total=3, free=3)
    await site.call("PATCH", "/pools/win", json={"min": 0, "max": 1})
    await site.settled(total=1, free=1)
    for change in ({"min": 2}, {"spare": 2}, {"max": 0}, {"min": -1}, {"max": None}, {"x": 1}):
        answer = await site.call("PATCH", "/pools/win", json=change)
        assert answer.status_code == 422, (change, answer.text)
    assert (await site.call("GET", "/pools/win")).json()["max"] == 1


async def test_a_new_template_version_reaches_what_is_free(ready_site: Any) -> None:
    site = ready_site
    await site.launch(site.ann, pool="win")
    await site.settled(assigned=1, free=1)
    await site.template(2)

    def versions() -> list[int]:
        return sorted(view.template.version for view in site.inventory.views.values())

    await eventually(lambda: versions() == [1, 2], "the free one has the new version")
    await site.settled(assigned=1, free=1)
    # The one in use gets it when its user leaves.
    sessions = (await site.call("GET", "/sessions")).json()["items"]
    await site.call("DELETE", f"/sessions/{sessions[0]['id']}")
    await eventually(lambda: set(versions()) == {2}, "both have the new version")


async def test_a_pinned_version_stays(ready_site: Any) -> None:
    site = ready_site
    await site.call("PATCH", "/pools/win", json={"template_version": 1})
    await site.template(2)
    await site.call("PATCH", "/pools/win", json={"min": 2})
    await site.settled(total=2, free=2)
    assert {view.template.version for view in site.inventory.views.values()} == {1}
    assert not site.inventory.of(ReimageDesktop)
    for version, code in (
        (9, "template.version-unknown"),
        (2**31 - 1, "template.version-unknown"),
        (2**31, "request.invalid"),
    ):
        answer = await site.call("PATCH", "/pools/win", json={"template_version": version})
        assert (answer.status_code, answer.json()["code"]) == (422, code), version


async def test_new_hardware_reaches_what_is_free(ready_site: Any) -> None:
    site = ready_site
    (old,) = site.inventory.views
    await site.call("PATCH", "/pools/win", json={"spec": {"vcpus": 3, "memory_mib": 512}})

    def renewed() -> bool:
        views = site.inventory.views
        return old not in views and [view.spec.vcpus for view in views.values()] == [3]

    await eventually(renewed, "another one has the new hardware")
    await site.settled(total=1, free=1)


async def test_a_name_that_is_taken_elsewhere(site: Any) -> None:
    await site.template()
    site.inventory.refusal = Problem(code="desktop.name-taken", detail="win-1 is somebody's.")
    await site.pool()
    await eventually(lambda: site.inventory.of(CreateDesktop), "a desktop is ordered")
    site.inventory.refusal = None
    await site.settled(free=1)
    names = [command.desktop_name for command in site.inventory.of(CreateDesktop)]
    assert names[0] == "win-1"
    assert len(set(names)) == len(names)
    assert "win-1" not in {view.name for view in site.inventory.views.values()}
    assert (await site.call("GET", "/pools/win")).json()["problem"] is None


async def test_a_refusal_is_the_pools_problem(site: Any) -> None:
    await site.template()
    ann = await site.user("ann")
    site.inventory.refusal = Problem(code="placement.spec-beyond-hosts", detail="Too large.")
    await site.pool(users=("ann",))

    async def shown() -> bool:
        problem = (await site.call("GET", "/pools/win")).json()["problem"]
        return bool(problem and problem["code"] == "placement.spec-beyond-hosts")

    await eventually(shown, "the pool shows it")
    answer = await site.launch(ann, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "placement.spec-beyond-hosts")
    assert len(site.inventory.of(CreateDesktop)) <= 2  # it is not tried in a hurry


async def test_deleting(ready_site: Any) -> None:
    site = ready_site
    opened = (await site.launch(site.ann, pool="win")).json()
    answer = await site.call("DELETE", "/pools/win")
    assert (answer.status_code, answer.json()["code"]) == (409, "pool.in-use")
    site.inventory.holding = True
    headers = {**site.admin, "X-Request-Id": "this-very-request"}
    answer = await site.call("DELETE", "/pools/win?force=true", headers=headers)
    assert answer.status_code == 202
    assert answer.headers["Location"].startswith("/api/v1/pools/")
    assert (await site.launch(site.bob, pool="win")).status_code == 404
    ended = await site.becomes(opened["session_id"], "ended")
    assert ended["end_reason"] == "desktop-deleted"

    async def gone() -> bool:
        return bool((await site.call("GET", "/pools/win")).status_code == 404)

    await eventually(gone, "the pool is gone")
    assert not site.inventory.views
    assert await site.sql("select count(*) from pool_desktops") == 0
    assert (await site.call("DELETE", "/pools/win")).status_code == 404
    assert site.inventory.of(PoolChanged)[-1].deleted
    for name in ("session.ended.v1", "desktop.delete.v1", "pool.changed.v1"):
        assert site.inventory.correlations[name] == "this-very-request"
    assert not site.inventory.of(ReimageDesktop), "what is deleted needs no fresh disk"
    await site.pool()  # the name is free again


async def test_a_desktop_that_somebody_else_deletes(ready_site: Any) -> None:
    site = ready_site
    opened = (await site.launch(site.ann, pool="win")).json()
    from uuid import UUID

    await site.inventory.bus.publish(DeleteDesktop(desktop_id=UUID(opened["desktop"]["id"])))
    ended = await site.becomes(opened["session_id"], "ended")
    assert ended["end_reason"] == "desktop-deleted"
    await site.settled(total=1, free=1, assigned=0)


async def test_a_desktop_that_inventory_has_lost_is_replaced(ready_site: Any) -> None:
    site = ready_site
    opened = (await site.launch(site.ann, pool="win")).json()
    lost = UUID(opened["desktop"]["id"])
    del site.inventory.views[lost]
    # While its user has it, nothing that inventory says of it takes it away.
    await site.inventory.say(DesktopNotFound(desktop_id=lost))
    await site.template(2)  # what came before it has been handled
    assert (await site.session(opened["session_id"]))["state"] == "pending"
    await site.call("DELETE", f"/sessions/{opened['session_id']}")
    await site.settled(total=1, free=1)
    assert lost not in site.inventory.views
    assert await site.sql(f"select count(*) from pool_desktops where id = '{lost}'") == 0


async def test_a_pool_goes_also_when_inventory_has_lost_its_desktops(ready_site: Any) -> None:
    site = ready_site
    site.inventory.views.clear()
    assert (await site.call("DELETE", "/pools/win")).status_code == 202

    async def gone() -> bool:
        return bool((await site.call("GET", "/pools/win")).status_code == 404)

    await eventually(gone, "the pool is gone")


async def test_not_found_says_nothing_of_what_is_still_to_be_made(site: Any) -> None:
    await site.template()
    site.inventory.deaf = True
    await site.pool()
    (create, *_) = await eventually(lambda: site.inventory.of(CreateDesktop), "one is ordered")
    await site.inventory.twice(site, [DesktopNotFound(desktop_id=create.desktop_id)], 1)
    found = f"select count(*) from pool_desktops where id = '{create.desktop_id}'"
    assert await site.sql(found) == 1


async def test_a_template_that_is_gone(ready_site: Any) -> None:
    site = ready_site
    template_id = next(iter(site.inventory.views.values())).template.id
    await site.inventory.say(TemplateDeleted(template_id=template_id, template_name="debian"))

    async def shown() -> bool:
        problem = (await site.call("GET", "/pools/win")).json()["problem"]
        return bool(problem and problem["code"] == "template.unknown")

    await eventually(shown, "the pool shows it")
    # What is there is still good; only new ones cannot be made.
    assert (await site.launch(site.ann, pool="win")).status_code == 200
    answer = await site.launch(site.bob, pool="win")
    assert (answer.status_code, answer.json()["code"]) == (503, "template.unknown")


async def test_bad_pools(site: Any) -> None:
    await site.template()
    sizes = (GuestSize(vcpus=16, memory_mib=4096), GuestSize(vcpus=8, memory_mib=8192))
    await site.limits(1, sizes)
    good = {"name": "win", "template": "debian", "max": 3}
    for change, status, code in (
        ({"template": "none"}, 422, "template.unknown"),
        ({"template": str(uuid4())}, 422, "template.unknown"),
        ({"template_version": 7}, 422, "template.version-unknown"),
        ({"template_version": 2**31 - 1}, 422, "template.version-unknown"),
        ({"template_version": 2**31}, 422, "request.invalid"),
        ({"kind": "manual"}, 422, "pool.kind-unsupported"),
        ({"kind": "other"}, 422, "request.invalid"),
        ({"min": 4}, 422, "request.invalid"),
        ({"spare": 4}, 422, "request.invalid"),
        ({"max": 0}, 422, "request.invalid"),
        ({"name": "Win"}, 422, "request.invalid"),
        ({"name": "w" * 51}, 422, "request.invalid"),
        ({"name": "-w"}, 422, "request.invalid"),
        ({"max_per_user": 0}, 422, "request.invalid"),
        ({"spec": {"vcpus": 0}}, 422, "request.invalid"),
        ({"spec": {"gpus": 1}}, 422, "request.invalid"),
        ({"spec": {"vcpus": 17}}, 422, "placement.spec-beyond-hosts"),
        ({"spec": {"memory_mib": 8193}}, 422, "placement.spec-beyond-hosts"),
        ({"spec": {"vcpus": 9, "memory_mib": 4097}}, 422, "placement.spec-beyond-hosts"),
        ({"color": "red"}, 422, "request.invalid"),
    ):
        answer = await site.call("POST", "/pools", json=good | change)
        assert (answer.status_code, answer.json()["code"]) == (status, code), change
    assert await site.sql("select count(*) from pools") == 0
    answer = await site.call("POST", "/pools", content=b"{", headers=site.admin)
    assert answer.status_code in (400, 422)
    both = await asyncio.gather(*(site.call("POST", "/pools", json=good) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [201, 409]
    taken = next(answer for answer in both if answer.status_code == 409)
    assert taken.json()["code"] == "pool.name-taken"


async def test_limits_follow_inventorys_word_and_the_newest_counts(site: Any) -> None:
    await site.template()
    great = {"template": "debian", "max": 1, "spec": {"vcpus": 16}}
    await site.pool("unknown", **great)  # no host is known: nothing is beyond them
    await site.limits(2, (GuestSize(vcpus=8, memory_mib=8192),))
    await site.inventory.say(
        PlacementLimitsChanged(revision=1, largest=(GuestSize(vcpus=64, memory_mib=8192),))
    )
    await site.template(2)  # what came before it has been handled
    answer = await site.call("POST", "/pools", json={"name": "second", **great})
    assert (answer.status_code, answer.json()["code"]) == (422, "placement.spec-beyond-hosts")
    patch = {"spec": {"memory_mib": 16384}}
    answer = await site.call("PATCH", "/pools/unknown", json=patch)
    assert (answer.status_code, answer.json()["code"]) == (422, "placement.spec-beyond-hosts")
    await site.limits(3, None)
    await site.pool("second", **great)


async def test_entitlements(ready_site: Any) -> None:
    site = ready_site
    await site.call("POST", "/groups", json={"name": "sales", "members": ["bob"]})
    for entries, code in (
        ([{"user": "eve"}], "user.unknown"),
        ([{"group": "none"}], "group.unknown"),
        ([{}], "request.invalid"),
        ([{"user": "ann", "group": "sales"}], "request.invalid"),
        ({"user": "ann"}, "request.invalid"),
    ):
        answer = await site.call("PUT", "/pools/win/entitlements", json=entries)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    listed = (await site.call("GET", "/pools/win/entitlements")).json()
    assert [entry["user"] for entry in listed] == ["ann", "bob"]
    answer = await site.call("PUT", "/pools/win/entitlements", json=[{"group": "sales"}] * 2)
    assert answer.json() == [{"group": "sales"}]
    assert (await site.launch(site.ann, pool="win")).status_code == 403
    assert (await site.launch(site.bob, pool="win")).status_code == 200
    await site.call("PATCH", "/groups/sales", json={"members": []})
    assert (await site.launch(site.bob, pool="win")).status_code == 403
    answer = await site.call("PUT", "/pools/none/entitlements", json=[])
    assert answer.status_code == 404


async def test_lost_commands_are_given_again(site: Any) -> None:
    """A desktop nobody has heard of after the back-off is asked for once more, by the same id."""
    await site.template()
    site.inventory.bus.publish, real = _nothing, site.inventory.bus.publish
    site.inventory._create = _nothing
    await site.pool()
    await eventually(lambda: len(site.inventory.of(CreateDesktop)) == 1, "one is ordered")
    site.inventory.bus.publish = real
    del site.inventory._create
    async with site.broker.unit_of_work() as transaction:
        import sqlalchemy as sa

        await transaction.session.execute(
            sa.text("update pool_desktops set commanded_at = commanded_at - interval '6 s'")
        )
    await site.settled(free=1)
    commands = site.inventory.of(CreateDesktop)
    assert len({command.desktop_id for command in commands}) == 1
    assert len(commands) == 2


async def _nothing(*_: Any, **__: Any) -> None:
    return None


async def test_two_copies_make_one_plan(new_site: Any) -> None:
    site = await new_site()
    await new_site(admin_password_file=None)
    await site.template()
    await site.pool(min=6, max=6, spare=2)
    await site.settled(total=6, free=6)
    commands = site.inventory.of(CreateDesktop)
    assert len(commands) == 6


@pytest.mark.parametrize("seed", range(3))
async def test_templates_twice_in_any_order(site: Any, seed: int) -> None:
    from roost_common.contracts.spec import OsFamily
    from roost_common.contracts.template import TemplateCreated

    gone, kept = uuid4(), uuid4()
    messages: list[Any] = [
        TemplateCreated(
            template_id=key,
            template_name=name,
            version=version,
            os=OsFamily.LINUX,
            virtual_bytes=1,
            used_bytes=1,
        )
        for key, name in ((gone, "gone"), (kept, "kept"))
        for version in (1, 2)
    ]
    messages.append(TemplateDeleted(template_id=gone, template_name="gone"))
    await site.inventory.twice(site, messages, seed)
    answer = await site.call("POST", "/pools", json={"name": "a", "template": "gone"})
    assert answer.json()["code"] == "template.unknown"
    answer = await site.call("POST", "/pools", json={"name": "b", "template": "kept"})
    assert answer.status_code == 201
    assert await site.sql("select count(*) from template_versions") == 4


@pytest.mark.parametrize("seed", range(3))
async def test_views_twice_in_any_order(ready_site: Any, seed: int) -> None:
    from roost_common.contracts.desktop import DesktopChanged, DesktopState

    site = ready_site
    (view,) = site.inventory.views.values()
    states = [DesktopState.STARTING, DesktopState.UNKNOWN, DesktopState.STOPPING]
    views = [
        view.model_copy(update={"revision": view.revision + number, "state": state})
        for number, state in enumerate([*states, DesktopState.RUNNING], start=1)
    ]
    site.inventory.views[view.id] = views[-1]
    await site.inventory.twice(site, [DesktopChanged(desktop=one) for one in views], seed)
    assert await site.sql("select state from pool_desktops where name = 'win-1'") == "running"
    await site.settled(free=1)
