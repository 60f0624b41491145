"""Commands: twice, out of order, for what is not there yet and for what is gone."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import SMALL, TEMPLATE

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DesktopChanged,
    DesktopCreated,
    DesktopCreateRefused,
    DesktopDeleted,
    DesktopNotFound,
    DesktopState,
    Power,
    ReimageDesktop,
    SetDesktopPower,
)
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Unavailable
from roost_common.testing.bus import delivery

pytestmark = pytest.mark.integration


async def test_creating_twice_makes_one(site: Site) -> None:
    command = CreateDesktop(
        desktop_id=UUID(int=1), desktop_name="d1", template=TEMPLATE, spec=SMALL
    )
    message_id = uuid4()
    for identity in (message_id, message_id, uuid4()):
        await site.tell(command, message_id=identity)
    await site.tell(command.model_copy(update={"desktop_name": "other"}))
    assert len(await site.spoken(DesktopCreated)) == 1
    assert await site.spoken(DesktopCreateRefused) == []
    assert (await site.row(UUID(int=1))).name == "d1"


async def test_a_taken_name_is_refused_for_good(site: Site) -> None:
    await site.create(1, name="taken")
    await site.create(2, name="taken")
    await site.create(2, name="taken")
    refusals = await site.spoken(DesktopCreateRefused)
    assert [(one.desktop_id.int, one.problem.code) for one in refusals] == [
        (2, "desktop.name-taken")
    ] * 2
    assert len(await site.rows("desktops")) == 1


async def test_what_no_host_can_ever_carry_is_refused_once_hosts_are_known(site: Site) -> None:
    giant = DesktopSpec(vcpus=16, memory_mib=64 * 1024)
    early = await site.create(1, spec=giant)
    assert (await site.row(early)).state is DesktopState.PROVISIONING
    await site.add_node("n1")
    await site.create(2, spec=giant)
    (refusal,) = await site.spoken(DesktopCreateRefused)
    assert refusal.problem.code == "placement.spec-beyond-hosts"
    await site.add_node("n2", cpus=96, memory_mib=1 << 20)
    await site.settle()
    await site.create(3, spec=giant)
    await site.settle()
    assert (await site.row(UUID(int=3))).state is DesktopState.RUNNING
    assert (await site.row(early)).state is DesktopState.RUNNING, "and what waited has its host"


@pytest.mark.parametrize(
    "early",
    [
        SetDesktopPower(desktop_id=UUID(int=1), power=Power.OFF),
        ReimageDesktop(desktop_id=UUID(int=1), disk_generation=2),
        DeleteDesktop(desktop_id=UUID(int=1)),
    ],
    ids=lambda message: message.name,
)
async def test_a_command_before_the_creation_comes_again(site: Site, early: Message) -> None:
    message_id = uuid4()
    with pytest.raises(Unavailable, match=r"desktop\.not-yet-created") as raised:
        await site.tell(early, message_id=message_id)
    assert raised.value.retryable
    desktop = await site.create(1)
    site.clock.advance(1)
    await site.tell(early, message_id=message_id)
    row = await site.row(desktop)
    assert (row.power is Power.OFF or row.deleting) != (row.disk_generation == 2)


async def test_the_later_of_two_power_orders_counts_whatever_comes_first(site: Site) -> None:
    desktop = await site.create(1)
    now = site.clock.now()

    async def order(power: Power, after_s: float) -> None:
        one = delivery(SetDesktopPower(desktop_id=desktop, power=power))
        envelope = one.envelope.model_copy(update={"time": now + timedelta(seconds=after_s)})
        await site.handlers.handle(one.model_copy(update={"envelope": envelope}))

    await order(Power.OFF, 2)
    await order(Power.ON, 1)
    assert (await site.row(desktop)).power is Power.OFF
    await order(Power.ON, 3)
    assert (await site.row(desktop)).power is Power.ON


async def test_reimages_out_of_order_reach_the_highest_and_its_template(site: Site) -> None:
    await site.add_node("n1")
    desktop = await site.create(1)
    await site.settle()
    newer = TemplateRef(id=TEMPLATE.id, name="demo", version=2)
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=3, template=newer))
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2, template=TEMPLATE))
    await site.settle()
    row = await site.row(desktop)
    assert (row.state, row.disk_ready, row.template.version) == (DesktopState.RUNNING, 3, 2)
    assert [c.template_version for c in site.imaging.commands] == [1, 2]


async def test_nothing_wakes_the_dead(site: Site) -> None:
    await site.add_node("n1")
    desktop = await site.create(1)
    await site.settle()
    for _ in range(2):
        await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    before = await site.rows("desktops")
    site.clock.advance(5)
    await site.create(1)
    await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.ON))
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=9))
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    assert await site.rows("desktops") == before
    gone = await site.spoken(DesktopDeleted)
    assert len(gone) == 5, "whoever asks is answered"
    assert len({event.desktop.revision for event in gone}) == 1, "and nothing new has happened"


@pytest.mark.parametrize("kind", ["create", "power", "reimage"])
async def test_an_order_that_changes_nothing_is_answered_with_what_is(
    site: Site, kind: str
) -> None:
    await site.add_node("n1")
    desktop = await site.create(1)
    await site.settle()
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2))
    await site.settle()
    view = (await site.row(desktop)).view()
    before = await site.spoken(DesktopChanged)
    if kind == "create":
        await site.create(1)
    elif kind == "power":
        await site.tell(SetDesktopPower(desktop_id=desktop, power=Power.ON))
    else:
        await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2))
    said = (await site.spoken(DesktopChanged))[len(before) :]
    assert [event.desktop for event in said] == [view]
    await site.settle()
    assert (await site.row(desktop)).view() == view


ORDERS = [
    SetDesktopPower(desktop_id=UUID(int=1), power=Power.ON),
    ReimageDesktop(desktop_id=UUID(int=1), disk_generation=2),
    DeleteDesktop(desktop_id=UUID(int=1)),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda message: message.name)
async def test_an_order_for_what_is_not_there_and_does_not_come_is_answered(
    site: Site, order: Message
) -> None:
    message_id = uuid4()
    with pytest.raises(Unavailable):
        await site.tell(order, message_id=message_id)
    assert await site.spoken(DesktopNotFound) == []
    for _ in range(2):
        await site.tell(order, message_id=message_id, redelivered=True)
    (answer,) = await site.spoken(DesktopNotFound)
    assert answer.desktop_id == UUID(int=1)


async def test_a_creation_that_comes_after_its_deletion_makes_nothing(site: Site) -> None:
    await site.tell(DeleteDesktop(desktop_id=UUID(int=1)), redelivered=True)
    await site.create(1)
    assert await site.rows("desktops") == []
    assert len(await site.spoken(DesktopNotFound)) == 2
    assert await site.spoken(DesktopCreated) == []


async def test_a_desktop_deleted_while_its_disk_is_made_leaves_nothing(site: Site) -> None:
    desktop = await site.create(1)
    await site.reconcile()
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    assert (await site.row(desktop)).state is DesktopState.DELETED
    assert site.imaging.reached[desktop] == (2, False)


async def test_a_whole_burst_of_orders_ends_in_the_last_word(site: Site) -> None:
    await site.add_node("n1")
    desktop = await site.create(1)
    for second, power in enumerate([Power.OFF, Power.ON, Power.OFF, Power.ON]):
        site.clock.advance(second + 1)
        await site.tell(SetDesktopPower(desktop_id=desktop, power=power))
        await site.reconcile()
    for _ in range(6):
        for node in site.nodes.values():
            for one in [d for d, domain in node.domains.items() if domain.asked_to_stop]:
                await site.tell(node.shut_down(one))
        await site.pass_time(11)
    assert (await site.row(desktop)).state is DesktopState.RUNNING
