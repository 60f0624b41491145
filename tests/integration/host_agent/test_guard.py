"""The guard against real processes: a frozen or dead agent does not keep a desktop alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.integration.host_agent.node import NodeProcesses
from tests.polling import wait_until

from roost_host_agent import lease_file
from roost_host_agent.lease_file import GuardedDomain, LeaseFile, boot_time

pytestmark = pytest.mark.integration

# An agent's part in it, and nothing else: it holds a lease for a moment, and again and again, at a
# pace of its own, as agents do. It is a process, because it is to be frozen.
AGENT = """
import sys, time
from pathlib import Path
from roost_host_agent.lease_file import GuardedDomain, LeaseFile, boot_time, write
path, uuid = Path(sys.argv[1]), sys.argv[2]
while True:
    write(path, LeaseFile("run", boot_time() + 1.0, (GuardedDomain(uuid, "d"),)))
    time.sleep(0.1)
"""


def wait_killed(process: subprocess.Popen[bytes]) -> None:
    """Wait until the guard has killed it."""
    wait_until(lambda: process.poll() is not None, "it is killed")


class Node(NodeProcesses):
    """A guard, and what it watches."""

    def guard(self) -> subprocess.Popen[bytes]:
        """Returns when it watches."""
        guard = self.module("roost_host_agent.guard", "--lease-file", str(self.lease))
        wait_until(lambda: lease_file.is_guarded(self.lease, boot_time()), "the guard watches")
        return guard

    def write_lease(self, left_s: float | None, *uuids: UUID) -> None:
        deadline = None if left_s is None else boot_time() + left_s
        domains = tuple(GuardedDomain(str(uuid), f"d-{uuid}") for uuid in uuids)
        lease_file.write(self.lease, LeaseFile("run", deadline, domains))

    def holds(self) -> bool:
        """Whether the lease has not ended."""
        lease = lease_file.read(self.lease)
        return lease is not None and not lease.ended(boot_time())

    def polls(self, times: int) -> None:
        """Wait for so many polls of the guard from now on."""
        for _ in range(times):
            self._polls_once()

    def _polls_once(self) -> None:
        before = self._sign()
        wait_until(lambda: self._sign() != before, "it polls")

    def _sign(self) -> str:
        return self.lease.with_name("lease.json.guard").read_text()

    def said(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(tmp_path, stack)


def test_a_frozen_agents_desktop_is_killed(node: Node) -> None:
    uuid = uuid4()
    domain, other = node.domain(uuid), node.domain(uuid4())
    agent = node.start(sys.executable, "-c", AGENT, str(node.lease), str(uuid))
    wait_until(node.lease.exists, "the agent holds a lease")
    node.guard()
    wait_until(lambda: node.said("guard.started"), "it has begun")
    agent.send_signal(signal.SIGSTOP)
    wait_killed(domain)
    assert domain.returncode == -signal.SIGKILL
    # It kills first and tells afterwards.
    (line,) = wait_until(lambda: node.said("guard.killed"), "it says so")
    assert (line["id"], line["pid"]) == (str(uuid), domain.pid)
    assert float(str(line["late_s"])) >= 0, "not before the lease had ended"
    # What is not on the list runs on, and so does the agent, which the guard knows nothing of.
    assert other.poll() is None
    agent.send_signal(signal.SIGCONT)
    # With the lease it writes now the desktop may run again.
    wait_until(node.holds, "it holds a lease again")
    again = node.domain(uuid)
    node.polls(3)
    assert again.poll() is None


def test_it_goes_on_killing_until_there_is_a_newer_lease(node: Node) -> None:
    uuid = uuid4()
    node.write_lease(-1, uuid)
    node.guard()
    for _ in range(3):
        domain = node.domain(uuid)
        wait_killed(domain)
    node.write_lease(60, uuid)
    node.polls(2)
    domain = node.domain(uuid)
    node.polls(2)
    node.write_lease(None, uuid)
    node.polls(2)
    assert domain.poll() is None


@pytest.mark.parametrize("trouble", ["gone", "broken"])
def test_a_lease_file_that_is_lost_ends_nothing_later(node: Node, trouble: str) -> None:
    uuid = uuid4()
    domain = node.domain(uuid)
    node.write_lease(2, uuid)
    node.guard()
    if trouble == "gone":
        node.lease.unlink()
    else:
        node.lease.write_text("{")
    wait_killed(domain)


def test_a_guard_that_is_killed_and_comes_back_goes_on(node: Node) -> None:
    uuid = uuid4()
    domain = node.domain(uuid)
    node.write_lease(1, uuid)
    first = node.guard()
    first.kill()
    first.wait()
    node.guard()
    wait_killed(domain)


def test_it_ends_when_it_is_told_to(node: Node) -> None:
    guard = node.guard()
    guard.terminate()
    assert guard.wait(10) == 0


def test_it_is_small(node: Node) -> None:
    guard = node.guard()
    pages = int(Path(f"/proc/{guard.pid}/statm").read_text().split()[1])
    assert pages * os.sysconf("SC_PAGE_SIZE") < 32 * 2**20
