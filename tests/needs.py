"""What a machine may lack: only here is a test left out for it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

OF_SERVERS = ("/usr/sbin", "/usr/lib/rabbitmq/bin")
"""Where servers are that are not on every user's path."""


def lacking(what: str) -> NoReturn:
    """Skip on a machine without ``what``; fail in CI (``CI`` is set), where nothing may lack."""
    __tracebackhide__ = True
    message = f"missing on this machine: {what}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def require(*programs: str) -> None:
    """`lacking` unless all of these programs are there."""
    __tracebackhide__ = True
    path = os.pathsep.join([os.environ.get("PATH", ""), *OF_SERVERS])
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        lacking(", ".join(missing))


def require_root(why: str) -> None:
    """`lacking` unless the tests run as root, who is needed ``why``: to mount."""
    __tracebackhide__ = True
    if os.geteuid() != 0:
        lacking(f"root, {why}")
