"""Fence agents run for real: small programs that speak the protocol, well or badly."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from time import monotonic

import psutil
import pytest
from tests.polling import eventually, wait_until

from roost_common.errors import Invalid
from roost_ha_monitor.fencing.fence_agents import Device, FenceAgents
from roost_ha_monitor.fencing.metadata import is_secret, parse
from roost_ha_monitor.fencing.plan import Said

METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_x" shortdesc="x">
<parameters>
  <parameter name="plug"><content type="string"  /></parameter>
  <parameter name="ip"><content type="string"  /></parameter>
  <parameter name="identity_file"><content type="string"  /></parameter>
  <parameter name="password_script"><content type="string"  /></parameter>
  <parameter name="gnutlscli_path"><content type="string"  /></parameter>
  <parameter name="debug_file"><content type="string"  /></parameter>
  <parameter name="ssh_options"><content type="string"  /></parameter>
  <parameter name="action"><content type="string"  /></parameter>
  <parameter name="ipport"><content type="integer" default="623"  /></parameter>
</parameters>
<actions><action name="on" /><action name="off" /><action name="status" /></actions>
</resource-agent>"""


class Shelf:
    """A directory with agents of one script each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.agents = FenceAgents(path, switch_timeout_s=5.0, status_timeout_s=5.0)

    def device(self, script: str, **options: str) -> Device:
        """A device whose agent is this shell script."""
        agent = self.path / "fence_x"
        agent.write_text(f"#!/bin/sh\n{script}\n")
        agent.chmod(0o755)
        return Device("kvm1", 0, "fence_x", options)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_options_are_given_line_by_line_on_standard_input(shelf: Shelf) -> None:
    kept = shelf.path / "given"
    device = shelf.device(f"cat > {kept}; [ $# = 0 ]", plug="7", password="a=b c")
    assert (await shelf.agents.off(device)).said is Said.DONE
    assert kept.read_text().splitlines() == [
        "plug=7",
        "password=a=b c",
        "nodename=kvm1",
        "action=off",
    ]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Status: ON'", Said.ON),
        ("true", Said.ON),
        ("echo 'Status: OFF'; exit 2", Said.OFF),
        # Arguments that an agent, a shell or Python does not like end with 2 as well.
        ("exit 2", Said.FAILED),
        ("echo 'usage: fence_x' >&2; exit 2", Said.FAILED),
        ("echo 'Status: OFF'", Said.FAILED),
        ("echo 'Status: OFF'; exit 1", Said.FAILED),
        ("exit 1", Said.FAILED),
        ("exit 127", Said.FAILED),
        ("kill -9 $$", Said.FAILED),
    ],
)
async def test_off_is_believed_only_where_code_and_word_agree(
    shelf: Shelf, script: str, said: Said
) -> None:
    assert (await shelf.agents.status(shelf.device(script))).said is said


@pytest.mark.parametrize(("script", "said"), [("true", Said.DONE), ("exit 7", Said.FAILED)])
async def test_what_switching_says(shelf: Shelf, script: str, said: Said) -> None:
    assert (await shelf.agents.off(shelf.device(script))).said is said
    assert (await shelf.agents.on(shelf.device(script))).said is said


async def test_a_complaint_is_shown_without_the_secrets_in_it(shelf: Shelf) -> None:
    device = shelf.device("echo first >&2; echo bad passwd=hunter2 >&2; exit 3", passwd="hunter2")
    answer = await shelf.agents.off(device)
    assert answer.detail == "it could not log in: bad passwd=***"
    assert "hunter2" not in repr(device)


@pytest.mark.long
async def test_an_agent_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    agents = FenceAgents(tmp_path, switch_timeout_s=0.5, status_timeout_s=0.5)
    kept = tmp_path / "pids"
    device = shelf.device(f"sleep 600 & echo $! $$ > {kept}; wait")
    began = monotonic()
    answer = await agents.off(device)
    assert answer.said is Said.TIMED_OUT
    assert monotonic() - began < 60, "left long before the agent would have ended"
    for pid in kept.read_text().split():
        await gone(int(pid))


async def test_an_agent_goes_with_whoever_waited_for_it(shelf: Shelf) -> None:
    kept = shelf.path / "pid"
    device = shelf.device(f"echo $$ > {kept}.new; mv {kept}.new {kept}; sleep 600")
    task = asyncio.create_task(shelf.agents.off(device))
    await eventually(kept.exists, "the agent is at it")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(int(kept.read_text()))


@pytest.mark.parametrize("turns", range(8))
async def test_an_agent_that_is_just_being_started_goes_too(shelf: Shelf, turns: int) -> None:
    """So many turns of the loop after it was asked for, and at whatever it is by then."""
    me = psutil.Process()
    others = set(me.children())
    task = asyncio.create_task(shelf.agents.off(shelf.device("sleep 600; true")))
    for _ in range(turns):
        await asyncio.sleep(0)
    started = list(set(me.children()) - others)
    for agent in started:
        wait_until(agent.children, "it has started another")
        started = [agent, *agent.children()]
    task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task
    for one in started:
        await gone(one.pid)


async def test_an_agent_that_talks_without_end_costs_no_memory(shelf: Shelf) -> None:
    device = shelf.device("head -c 5000000 /dev/zero; exit 0")
    assert (await shelf.agents.off(device)).said is Said.DONE


async def test_what_is_no_program_is_a_failure(shelf: Shelf) -> None:
    (shelf.path / "fence_x").write_text("no program")
    answer = await shelf.agents.off(Device("kvm1", 0, "fence_x", {}))
    assert answer.said is Said.FAILED


async def test_options_that_could_not_be_opened_are_a_failure(shelf: Shelf) -> None:
    shelf.device("true")
    answer = await shelf.agents.off(Device("kvm1", 0, "fence_x", {}, problem="No key."))
    assert (answer.said, "No key." in answer.detail) == (Said.FAILED, True)


@pytest.mark.parametrize("name", ["fence_y", "../bin/sh", "fence_/x", "fence_x\n", "sh", "fence_X"])
async def test_only_fence_agents_of_the_directory_are_run(shelf: Shelf, name: str) -> None:
    shelf.device("true")
    with pytest.raises(Invalid) as refused:
        await shelf.agents.metadata(name)
    assert refused.value.code == "fencing.agent-unknown"


async def test_a_program_without_metadata_is_no_agent(shelf: Shelf) -> None:
    shelf.device("echo hello")
    with pytest.raises(Invalid):
        await shelf.agents.metadata("fence_x")


async def test_metadata_is_asked_of_the_agent(shelf: Shelf) -> None:
    (shelf.path / "meta").write_text(METADATA)
    shelf.device(f"grep -q action=metadata && cat {shelf.path}/meta")
    metadata = await shelf.agents.metadata("fence_x")
    assert metadata.actions == {"on", "off", "status"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, None),
        ({"plug": "1", "ip": "192.0.2.1", "identity-file": "/k"}, None),
        ({"port": "1"}, "port"),
        ({"plug": "1\naction=on"}, "plug"),
        ({"plug": "1\r"}, "plug"),
        ({"plug=1\nip": "x"}, "plug"),
        ({"action": "reboot"}, "action"),
        ({"password_script": "/bin/evil"}, "password_script"),
        ({"password-script": "/bin/evil"}, "password-script"),
        ({"PASSWORD_SCRIPT": "/bin/evil"}, "PASSWORD_SCRIPT"),
        ({"gnutlscli_path": "/bin/evil"}, "gnutlscli_path"),
        ({"debug_file": "/etc/passwd"}, "debug_file"),
        ({"ssh_options": "-o ProxyCommand=evil"}, "ssh_options"),
    ],
)
def test_options_are_those_of_the_agent_and_run_nothing_else(
    options: dict[str, str], names: str | None
) -> None:
    problem = parse(METADATA).problem(options)
    assert (problem is None) == (names is None)
    if problem is not None:
        assert repr(names)[1:-1] in problem
        assert not any(value in problem for value in options.values())


def test_an_agent_that_cannot_say_the_state_is_not_taken() -> None:
    without = METADATA.replace('<action name="status" />', "")
    assert "status" in (parse(without).problem({}) or "")


@pytest.mark.parametrize("text", ["", "<a", "<html/>"])
def test_what_is_no_metadata_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_secrets_are_told_by_their_names() -> None:
    secret = [
        "passwd",
        "password",
        "snmp_priv_passwd",
        "community",
        "apikey",
        "token",
        "secret_key",
    ]
    assert all(is_secret(name) for name in secret)
    assert not any(is_secret(name) for name in ["plug", "ip", "username", "login", "lanplus"])


async def gone(pid: int) -> None:
    """Wait until a process has ended; a zombie that nobody reaps has. One that stays is killed."""
    try:
        await eventually(lambda: _ended(pid), f"{pid} has ended")
    except AssertionError:
        os.kill(pid, 9)
        raise


def _ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"
