from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError
from tests.unit.host_agent.hypervisor_contract import wanted

from roost_common.contracts.base import Delivery
from roost_common.contracts.display import (
    CloseDisplay,
    DisplayTicket,
    Done,
    OpenDisplay,
    RebootDesktop,
)
from roost_common.contracts.host import HostApproved
from roost_common.errors import Conflict, Invalid, Unavailable
from roost_common.testing.bus import FakeBus, delivery
from roost_common.testing.clock import FakeClock
from roost_host_agent import metrics
from roost_host_agent.address import towards
from roost_host_agent.handlers import Handlers, Trust
from roost_host_agent.hypervisor.fake import FakeHypervisor
from roost_host_agent.hypervisor.host_profile import DiskCache, NetworkKind, SpiceTls, VirtType
from roost_host_agent.node import Node
from roost_host_agent.observer import Observer
from roost_host_agent.reconciler import Reconciler
from roost_host_agent.settings import Settings


def settings(**values: object) -> Settings:
    return Settings.model_validate({"node": "node-a", "amqp_url": "amqp://bus/", **values})


def test_the_profile_follows_the_settings() -> None:
    found = settings(
        virt_type="kvm", network="bridge:br0", spice_tls="required", disk_cache="writeback"
    ).profile("192.0.2.1")
    assert found.virt_type is VirtType.KVM
    assert (found.network.kind, found.network.name) == (NetworkKind.BRIDGE, "br0")
    assert found.spice_tls is SpiceTls.REQUIRED
    assert found.disk_cache is DiskCache.WRITEBACK
    assert found.spice_listen == "192.0.2.1"
    assert settings(spice_listen="::").profile("192.0.2.1").spice_listen == "::"


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "bridge:"},
        {"node": "Node A"},
        {"virt_type": "xen"},
        {"report_interval_s": 0},
        {"lease_s": 9.9},
        {"lease_s": -1},
        {"starts_at_once": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_a_lease_and_its_file() -> None:
    assert settings().lease_s == 45
    assert [settings(lease_s=value).lease_s for value in (0, 10)] == [0, 10]
    assert settings().guarded_file == Path("/run/roost/lease.json")
    assert settings(driver="fake").guarded_file is None
    assert settings(driver="fake", lease_file="/x/l").guarded_file == Path("/x/l")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOST_AGENT_NODE", "node-b")
    monkeypatch.setenv("ROOST_HOST_AGENT_AMQP_URL", "amqp://u:geheim@bus/")
    monkeypatch.setenv("ROOST_HOST_AGENT_SPICE_CA_FILE", "/etc/roost/ca.pem")
    found = Settings()
    assert (found.node, found.spice_ca_file) == ("node-b", Path("/etc/roost/ca.pem"))
    assert "geheim" not in repr(found)


def test_the_address_is_the_one_towards_the_bus() -> None:
    assert towards("amqp://u:p@127.0.0.1:5672/v") == "127.0.0.1"
    with pytest.raises(Unavailable):
        towards("amqp://no-such-host.invalid/")


# --- the ways in ----------------------------------------------------------------------------------


@pytest.fixture
def driver() -> FakeHypervisor:
    return FakeHypervisor()


@pytest.fixture
def handlers(driver: FakeHypervisor) -> Handlers:
    clock = FakeClock()
    reconciler = Reconciler(driver, Observer(Node("node-a", "", uuid4()), FakeBus(), clock), clock)
    return Handlers(driver, reconciler, Trust(ca="PEM", host_subject="CN=node-a"))


async def test_a_screen_is_opened_for_the_run_that_is_meant(
    handlers: Handlers, driver: FakeHypervisor
) -> None:
    command, boot_id = wanted(), uuid4()
    await driver.start(command, boot_id)
    ticket = await handlers.question(
        OpenDisplay(desktop_id=command.desktop_id, boot_id=boot_id, valid_s=20)
    )
    assert isinstance(ticket, DisplayTicket)
    assert (ticket.boot_id, ticket.valid_s) == (boot_id, 20)
    assert ticket.spice.host == "127.0.0.1"
    assert ticket.password.get_secret_value() not in repr(ticket)
    # Without a TLS port there is nothing to trust.
    assert (ticket.ca, ticket.host_subject) == ("", "")
    with pytest.raises(Conflict) as refused:
        await handlers.question(OpenDisplay(desktop_id=command.desktop_id, boot_id=uuid4()))
    assert refused.value.code == "desktop.not-running"


async def test_close_and_reboot(handlers: Handlers, driver: FakeHypervisor) -> None:
    command, boot_id = wanted(), uuid4()
    await driver.start(command, boot_id)
    driver.connect_client(command.desktop_id)
    close = CloseDisplay(desktop_id=command.desktop_id, boot_id=boot_id)
    assert await handlers.question(close) == Done()
    (view,) = await driver.domains()
    assert view.clients == ()
    assert await handlers.question(RebootDesktop(desktop_id=command.desktop_id)) == Done()
    await driver.remove(command.desktop_id, 2, None)
    assert await handlers.question(close) == Done()
    with pytest.raises(Conflict):
        await handlers.question(RebootDesktop(desktop_id=command.desktop_id))


async def test_what_is_meant_for_another_run_is_dropped(driver: FakeHypervisor) -> None:
    clock, me = FakeClock(), uuid4()
    observer = Observer(Node("node-a", "", me), FakeBus(), clock)
    handlers = Handlers(driver, Reconciler(driver, observer, clock), Trust(), agent_id=me)
    dropped = metrics.ENSURES.labels("for-another-run")
    before = dropped._value.get()
    for meant in (uuid4(), uuid4()):
        await handlers.command(delivery(wanted(agent_id=meant)))
    assert await driver.domains() == ()
    assert dropped._value.get() == before + 2
    for mine in (me, None):
        await handlers.command(delivery(wanted(agent_id=mine)))
    assert len(await driver.domains()) == 2


async def test_what_is_not_for_an_agent_is_dead_lettered(handlers: Handlers) -> None:
    stray: Delivery = delivery(HostApproved(node="node-a"))
    with pytest.raises(Invalid):
        await handlers.command(stray)
