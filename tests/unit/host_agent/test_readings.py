"""What is read of libvirt and of guests, as pure functions of what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import libvirt
import pytest
from lxml import etree

from roost_common.contracts.desktop import DomainState, GuestInfo, StopReason
from roost_common.errors import Unavailable
from roost_common.testing.clock import FakeClock
from roost_host_agent.hypervisor import domain_facts, domain_stats, guest_agent
from roost_host_agent.hypervisor.domain_reader import DomainReader
from roost_host_agent.hypervisor.domain_stats import CpuSample
from roost_host_agent.hypervisor.guest_poller import GuestPoller
from roost_host_agent.hypervisor.host_capabilities import (
    dotted,
    has_virtualisation,
    machine_types,
    offers_spice,
)
from roost_host_agent.hypervisor.host_profile import VirtType

# --- statistics -----------------------------------------------------------------------------------


def test_processor_use_is_of_what_was_given() -> None:
    before, now = CpuSample(100.0, 10_000_000_000), CpuSample(110.0, 20_000_000_000)
    found = domain_stats.usage({"cpu.time": 20_000_000_000}, 2, before, now)
    assert found.cpu_percent == 50.0


@pytest.mark.parametrize("before", [None, CpuSample(120.0, 0), CpuSample(100.0, 30_000_000_000)])
def test_without_an_earlier_sample_of_the_same_run_use_is_unknown(
    before: CpuSample | None,
) -> None:
    now = CpuSample(110.0, 20_000_000_000)
    assert domain_stats.usage({}, 2, before, now).cpu_percent == 0.0


def test_memory_is_the_guests_account_where_it_gives_one() -> None:
    now = CpuSample(1.0, 0)
    rss_only = {"balloon.rss": 700 * 1024, "balloon.current": 512 * 1024}
    told = {**rss_only, "balloon.available": 500 * 1024, "balloon.usable": 400 * 1024}
    assert domain_stats.usage(rss_only, 1, None, now).memory_used_mib == 512
    assert domain_stats.usage(told, 1, None, now).memory_used_mib == 100


def test_counters_are_summed_over_devices() -> None:
    params = {
        "block.count": 2,
        "block.0.rd.bytes": 1,
        "block.1.rd.bytes": 2,
        "block.0.wr.bytes": 4,
        "net.count": 1,
        "net.0.rx.bytes": 8,
        "net.0.tx.bytes": 16,
    }
    found = domain_stats.usage(params, 1, None, CpuSample(1.0, 0))
    assert (found.disk_read_bytes, found.disk_written_bytes) == (3, 4)
    assert (found.net_received_bytes, found.net_sent_bytes) == (8, 16)


@pytest.mark.parametrize(
    ("state", "reason", "asked", "expected"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, 1, False, None),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, False, "guest-shutdown"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, True, "requested"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, False, "requested"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, False, "crashed"),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, False, "crashed"),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, False, "crashed"),
    ],
)
def test_why_a_domain_does_not_run(
    state: int, reason: int, asked: bool, expected: str | None
) -> None:
    found = domain_stats.stop_reason({"state.state": state, "state.reason": reason}, asked=asked)
    assert found == (None if expected is None else StopReason(expected))


def test_a_guest_on_its_way_out_still_runs() -> None:
    assert domain_stats.state({"state.state": libvirt.VIR_DOMAIN_SHUTDOWN}) is DomainState.RUNNING


def test_a_failed_disk_is_told_from_other_pauses() -> None:
    paused = {"state.state": libvirt.VIR_DOMAIN_PAUSED}
    failed = {**paused, "state.reason": libvirt.VIR_DOMAIN_PAUSED_IOERROR}
    asked = {**paused, "state.reason": libvirt.VIR_DOMAIN_PAUSED_USER}
    assert domain_stats.paused_by_storage(failed)
    assert not domain_stats.paused_by_storage(asked)


# --- XML ------------------------------------------------------------------------------------------

_DOMAIN = """
<domain><name>x</name><uuid>11111111-2222-4333-8444-555555555555</uuid>
<metadata><r:desktop xmlns:r="urn:roost:desktop:1" name="d" generation="2"
  boot-id="99999999-2222-4333-8444-555555555555" disk="/d" {more}/></metadata>
<vcpu>4</vcpu><devices><graphics type="spice" port="{port}" tlsPort="5902"/></devices></domain>
"""


def test_facts_of_a_live_domain() -> None:
    facts = domain_facts.from_xml(_DOMAIN.format(more="", port=5901))
    assert facts is not None
    assert (facts.vcpus, facts.port, facts.tls_port) == (4, 5901, 5902)
    assert facts.mark.boot_id == UUID("99999999-2222-4333-8444-555555555555")


def test_a_closed_port_is_no_port() -> None:
    facts = domain_facts.from_xml(_DOMAIN.format(more="", port=-1))
    assert facts is not None
    address = facts.spice("192.0.2.1")
    assert address is not None
    assert (address.host, address.port, address.tls_port) == ("192.0.2.1", None, 5902)


def test_a_deadline_in_the_mark() -> None:
    facts = domain_facts.from_xml(
        _DOMAIN.format(more='stop-by="2026-01-05T08:00:00+00:00"', port=1)
    )
    assert facts is not None
    assert facts.mark.stop_by is not None
    assert facts.mark.stop_by.isoformat() == "2026-01-05T08:00:00+00:00"


def test_other_peoples_domains_are_none_of_ours() -> None:
    assert domain_facts.from_xml("<domain><uuid>x</uuid></domain>") is None
    assert domain_facts.from_xml(_DOMAIN.format(more='stop-by="soon"', port=1)) is None


# --- a whole look ---------------------------------------------------------------------------------


class Libvirt:
    """One domain that has no job: held when its statistics were read, and afterwards what it is."""

    def __init__(self, now: int, reason: int) -> None:
        self._now = [now, reason]

    def getType(self) -> str:  # noqa: N802 - libvirt's names, here and below
        return "TEST"

    def getAllDomainStats(self, *_: int) -> list[Any]:  # noqa: N802
        held = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
        return [(self, dict(zip(("state.state", "state.reason"), held, strict=True)))]

    def UUIDString(self) -> str:  # noqa: N802
        return "11111111-2222-4333-8444-555555555555"

    def ID(self) -> int:  # noqa: N802
        return 7

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return _DOMAIN.format(more="", port=5901)

    def jobStats(self, _flags: int) -> dict[str, int]:  # noqa: N802
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def state(self) -> list[int]:
        return self._now


@pytest.mark.parametrize(
    ("now", "told"),
    [
        # It has just arrived, or its migration has just failed: its guest runs.
        ((libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED), [DomainState.RUNNING]),
        # It has just left.
        ((libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED), []),
        # Its libvirtd could not let it go on.
        ((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION), [DomainState.PAUSED]),
    ],
)
def test_what_was_held_a_moment_ago_is_looked_at_again(
    now: tuple[int, int], told: list[DomainState]
) -> None:
    reader = DomainReader("192.0.2.1", lambda *_: None)
    assert [view.state for view in reader.read(Libvirt(*now))] == told


DESKTOP = UUID("11111111-2222-4333-8444-555555555555")


class Changing(Libvirt):
    """A domain to which something happens while its XML is on its way."""

    def __init__(self, *happens: Callable[[], object]) -> None:
        super().__init__(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
        self._happens = happens
        self.looks = 0

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        self.looks += 1
        if self.looks == 1:
            for what in self._happens:
                what()
        return super().XMLDesc(_flags)


class Nothing(Libvirt):
    """A libvirtd without domains."""

    def __init__(self) -> None:
        super().__init__(0, 0)

    def getAllDomainStats(self, *_: int) -> list[Any]:  # noqa: N802
        return []


def _looks(reader: DomainReader, *happens: Callable[[], object]) -> int:
    """How often the XML is read for two looks, the first with this meanwhile."""
    domain = Changing(*happens)
    for _ in range(2):
        reader.facts(domain)
    return domain.looks


def test_a_look_is_remembered_unless_an_event_came_meanwhile() -> None:
    def reader() -> DomainReader:
        return DomainReader("192.0.2.1", lambda *_: None)

    assert _looks(reader()) == 1
    one = reader()
    assert _looks(one, lambda: one.forget(DESKTOP)) == 2
    every = reader()
    assert _looks(every, every.forget) == 2
    other = reader()
    assert _looks(other, lambda: other.forget(uuid4())) == 1


@pytest.mark.parametrize(
    ("before", "meanwhile", "looks"),
    [
        # e is an event, p a look at all domains after which its number is forgotten.
        ("", "ep", 2),
        ("e", "ep", 2),
        ("ee", "ep", 2),
        ("ep", "ep", 2),
        ("e", "pe", 2),
        ("ee", "pee", 2),
        ("e", "pepe", 2),
        # What came before the look began is another matter.
        ("ep", "", 1),
        ("epe", "", 1),
    ],
)
def test_a_look_is_not_remembered_over_an_event_whose_number_is_forgotten(
    before: str, meanwhile: str, looks: int
) -> None:
    reader = DomainReader("192.0.2.1", lambda *_: None)
    steps: dict[str, Callable[[], object]] = {
        "e": lambda: reader.forget(DESKTOP),
        "p": lambda: reader.read(Nothing()),
    }
    for step in before:
        steps[step]()
    assert _looks(reader, *(steps[step] for step in meanwhile)) == looks


def test_events_of_domains_that_are_gone_are_forgotten() -> None:
    reader = DomainReader("192.0.2.1", lambda *_: None)
    here = Libvirt(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
    for desktop_id in (DESKTOP, *(uuid4() for _ in range(100))):
        reader.forget(desktop_id)
    reader.read(here)
    assert set(reader._changes) == {DESKTOP}
    reader.read(Nothing())
    assert not reader._changes


# --- capabilities ---------------------------------------------------------------------------------


def test_virtualisation_is_in_the_processors_flags() -> None:
    assert has_virtualisation("model\t: x\nflags\t\t: fpu vmx sse\n")
    assert has_virtualisation("flags : svm")
    assert not has_virtualisation("flags : fpu sse\nvmx flags : vnmi")
    assert not has_virtualisation("")


def test_spice_may_be_missing() -> None:
    text = "<d><devices><graphics><enum name='type'>{}</enum></graphics></devices></d>"
    assert offers_spice(etree.fromstring(text.format("<value>vnc</value><value>spice</value>")))
    assert not offers_spice(etree.fromstring(text.format("<value>vnc</value>")))


def test_machine_types_by_their_canonical_names() -> None:
    capabilities = etree.fromstring(
        "<capabilities><guest><arch name='x86_64'>"
        "<machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine>"
        "<machine>isapc</machine><domain type='kvm'><machine>pc-i440fx-7.2</machine></domain>"
        "</arch></guest></capabilities>"
    )
    assert machine_types(capabilities, VirtType.KVM) == ("pc-i440fx-7.2", "pc-q35-7.2")
    assert machine_types(capabilities, VirtType.QEMU) == ("pc-q35-7.2",)


def test_versions_as_people_write_them() -> None:
    assert dotted(9_000_000) == "9.0.0"
    assert dotted(7_002_022) == "7.2.22"


# --- guests ---------------------------------------------------------------------------------------


def test_what_a_guest_answers() -> None:
    answers = {
        "os.pretty-name": "Debian GNU/Linux 12",
        "os.kernel-release": "6.1.0",
        "hostname": "desk-1",
        "user.count": 3,
        "user.0.name": "zoe",
        "user.1.name": "ann",
        "user.2.name": "ann",
        "if.count": 2,
        "if.0.addr.count": 2,
        "if.0.addr.0.addr": "127.0.0.1",
        "if.0.addr.1.addr": "::1",
        "if.1.addr.count": 3,
        "if.1.addr.0.addr": "192.0.2.7",
        "if.1.addr.1.addr": "fe80::1",
        "if.1.addr.2.addr": "2001:db8::7",
    }
    found = guest_agent.from_answers(answers, ("bash 5.2",))
    assert found == GuestInfo(
        os="Debian GNU/Linux 12",
        kernel="6.1.0",
        hostname="desk-1",
        addresses=("192.0.2.7", "2001:db8::7"),
        users=("ann", "zoe"),
        applications=("bash 5.2",),
    )
    assert guest_agent.from_answers({}, ()) == GuestInfo()


class Guests:
    """A poller with guests that answer, or do not."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.answers: dict[UUID, GuestInfo] = {}
        self.asked: list[UUID] = []
        self.changed: list[UUID] = []
        self.poller = GuestPoller(self._ask, self.clock)

    async def _ask(self, desktop_id: UUID) -> GuestInfo:
        self.asked.append(desktop_id)
        if desktop_id not in self.answers:
            raise Unavailable("host.libvirt-busy", "The guest is silent.")
        return self.answers[desktop_id]

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.poller.round(self.changed.append)


async def test_a_new_guest_is_asked_soon_and_then_slowly() -> None:
    guests, desktop, boot = Guests(), uuid4(), uuid4()
    guests.answers[desktop] = GuestInfo(os="Debian")
    guests.poller.seen({desktop: boot})
    await guests.after(4)
    assert guests.asked == []
    await guests.after(1)
    assert guests.changed == [desktop]
    assert guests.poller.info(desktop, boot) == GuestInfo(os="Debian")
    assert guests.poller.info(desktop, uuid4()) is None
    for _ in range(29):
        await guests.after(1)
    assert guests.asked == [desktop]
    await guests.after(1)
    assert guests.asked == [desktop, desktop]
    assert guests.changed == [desktop]


async def test_a_guest_that_ends_before_its_turn_ends_nobody_else() -> None:
    guests, desktop = Guests(), uuid4()
    guests.poller.seen({desktop: uuid4()})
    guests.clock.advance(5)
    round_ = asyncio.create_task(guests.poller.round(guests.changed.append))
    asyncio.get_running_loop().call_soon(guests.poller.seen, {})
    await round_
    assert guests.changed == []


async def test_a_silent_guest_is_asked_less_and_less_and_then_forgotten() -> None:
    guests, desktop, boot = Guests(), uuid4(), uuid4()
    guests.poller.seen({desktop: boot})
    asked_after = []
    for second in range(1, 76):
        before = len(guests.asked)
        await guests.after(1)
        asked_after += [second] * (len(guests.asked) - before)
    assert asked_after == [5, 10, 20, 40, 70]
    guests.answers[desktop] = GuestInfo(os="Debian")
    guests.poller.soon(desktop)
    await guests.after(0)
    assert guests.poller.info(desktop, boot) is not None
    guests.answers.clear()
    for _ in range(3):
        assert guests.poller.info(desktop, boot) is not None
        await guests.after(30)
    assert guests.poller.info(desktop, boot) is None
    assert guests.changed == [desktop, desktop]


async def test_only_a_few_at_a_time_and_the_longest_due_first() -> None:
    guests = Guests()
    desktops = [uuid4() for _ in range(5)]
    guests.poller.seen({desktop: uuid4() for desktop in desktops})
    await guests.after(6)
    assert len(guests.asked) == 2
    await guests.after(0)
    await guests.after(0)
    assert sorted(guests.asked) == sorted(desktops)


async def test_a_new_run_starts_from_nothing() -> None:
    guests, desktop, boot = Guests(), uuid4(), uuid4()
    guests.answers[desktop] = GuestInfo(os="Debian")
    guests.poller.seen({desktop: boot})
    await guests.after(5)
    guests.poller.seen({desktop: uuid4()})
    assert guests.poller.info(desktop, boot) is None
    guests.poller.seen({})
    await guests.after(60)
    assert len(guests.asked) == 1


def test_where_a_guest_lists_its_applications() -> None:
    assert guest_agent.applications_file({"os.id": "debian"}) == "/var/lib/roost/applications"
    assert guest_agent.applications_file({}) == "/var/lib/roost/applications"
    windows = guest_agent.applications_file({"os.id": "mswindows"})
    assert windows == "C:\\ProgramData\\Roost\\applications"
