"""The lease file, and the guard's side of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roost_host_agent import lease_file, processes
from roost_host_agent.lease_file import GUARD_LIVES_S, GuardedDomain, LeaseFile
from roost_host_agent.processes import DomainProcess

UUID_A = "11111111-2222-4333-8444-555555555555"
LEASE = LeaseFile("run", 12.5, (GuardedDomain(UUID_A, "d"),))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "roost" / "lease.json"
    assert lease_file.read(path) is None
    for lease in (LEASE, LeaseFile("run", None, ())):
        lease_file.write(path, lease)
        assert lease_file.read(path) == lease
    assert [file.name for file in path.parent.iterdir()] == ["lease.json"]


def test_a_file_of_another_boot_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    lease_file.write(path, LEASE)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"machine": "another"}))
    assert lease_file.read(path) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"machine": 1}'])
def test_what_is_no_lease_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(text)
    if text == '{"machine": 1}':
        assert lease_file.read(path) is None
        return
    with pytest.raises(ValueError):
        lease_file.read(path)


def test_it_ends_after_its_deadline() -> None:
    assert not LEASE.ended(12.5)
    assert LEASE.ended(12.6)
    assert not LeaseFile("run", None, ()).ended(1e9)


def test_a_guard_is_there_while_it_leaves_signs(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    assert not lease_file.is_guarded(path, 0)
    lease_file.leave_sign(path, 100)
    assert lease_file.is_guarded(path, 100 + GUARD_LIVES_S - 0.1)
    assert not lease_file.is_guarded(path, 100 + GUARD_LIVES_S)
    path.with_name("lease.json.guard").write_text("{")
    assert not lease_file.is_guarded(path, 100)


def test_processes_are_known_by_their_uuid_and_nothing_else(tmp_path: Path) -> None:
    for pid, line in {
        "10": ["qemu-system-x86_64", "-name", "d", "-uuid", UUID_A.upper(), "-m", "1"],
        "11": ["qemu-system-x86_64", "-uuid", UUID_A.replace("1", "2")],
        "12": ["grep", f"-uuid {UUID_A}"],
        "13": ["sh", "-uuid"],
        "14": [""],
        "self": ["qemu-system-x86_64", "-uuid", UUID_A],
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join([*line, ""]).encode())
    (tmp_path / "15").mkdir()  # it ended while we looked
    assert list(processes.of({UUID_A}, tmp_path)) == [DomainProcess(10, UUID_A)]


def test_a_pid_that_was_given_to_another_process_is_left_alone() -> None:
    # This very process has no -uuid of that kind: being killed would end the test.
    assert not processes.kill(DomainProcess(os.getpid(), UUID_A))


def test_the_guard_is_made_of_the_standard_library() -> None:
    script = (
        "import sys; before = {m.partition('.')[0] for m in sys.modules}; "
        "import roost_host_agent.guard; "
        "new = {m.partition('.')[0] for m in sys.modules} - before; "
        "print(sorted(new - set(sys.stdlib_module_names)), 'asyncio' in new)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[0] == "['roost_host_agent'] False"
