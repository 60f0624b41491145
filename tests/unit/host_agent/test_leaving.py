from __future__ import annotations

import subprocess
import sys

import pytest

# A thread that hangs in libvirt, so to say.
SCRIPT = """
import sys, threading, time
from roost_host_agent import leaving
threading.Thread(target=time.sleep, args=(600,)).start()
print("the log is written", end="")
with leaving.at_once():
    sys.exit({status})
"""


@pytest.mark.parametrize(("status", "left"), [("0", 0), ("1", 1), ("None", 0), ("75", 75)])
def test_a_thread_that_hangs_does_not_hold_the_process(status: str, left: int) -> None:
    argv = [sys.executable, "-c", SCRIPT.format(status=status)]
    found = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (left, "the log is written")


def test_what_is_to_be_read_is_said() -> None:
    argv = [sys.executable, "-m", "roost_host_agent"]
    found = subprocess.run(argv, capture_output=True, text=True, env={}, timeout=60, check=False)
    assert found.returncode == 1
    assert "ROOST_HOST_AGENT_NODE" in found.stderr
