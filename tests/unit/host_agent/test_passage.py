"""Which way a domain goes: from what libvirt says of it on either side, as seen with libvirt 9."""

from __future__ import annotations

import libvirt
import pytest

from roost_host_agent.hypervisor import passage
from roost_host_agent.hypervisor.passage import Passage

STARTING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
HELD = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
BY_A_USER = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)
RUNS = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
ARRIVED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
LEFT = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)

AT_TARGET = libvirt.VIR_ERR_OPERATION_UNSUPPORTED
IDLE = {"type": libvirt.VIR_DOMAIN_JOB_NONE}
OUT = {
    "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
}
BACKUP = {
    "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP,
}
Answer = dict[str, int] | int


class Refusal(libvirt.libvirtError):  # type: ignore[misc]
    def __init__(self, code: int) -> None:
        Exception.__init__(self, "refused")
        self.err = (code, libvirt.VIR_FROM_QEMU, "refused", 2, None, None, None, 0, 0)


class Domain:
    """What libvirt answers when it is asked for the job."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked = 0

    def jobStats(self, _flags: int) -> dict[str, int]:  # noqa: N802 - libvirt's name
        self.asked += 1
        if isinstance(self._answer, int):
            raise Refusal(self._answer)
        return self._answer


@pytest.mark.parametrize(
    ("state", "answer", "expected"),
    [
        (STARTING, AT_TARGET, Passage.ARRIVING),
        (HELD, AT_TARGET, Passage.ARRIVING),
        # It runs, though libvirt has not put its incoming job away.
        (ARRIVED, AT_TARGET, None),
        (ARRIVED, IDLE, None),
        (RUNS, OUT, Passage.LEAVING),
        # The last moment: the source is held, and nobody there may let it go.
        (HELD, OUT, Passage.LEAVING),
        # All of it is sent, and the target has not said yet that it runs there.
        (HELD, OUT | {"type": libvirt.VIR_DOMAIN_JOB_COMPLETED}, Passage.LEAVING),
        (RUNS, OUT | {"type": libvirt.VIR_DOMAIN_JOB_CANCELLED}, None),
        # A source that its libvirtd could not let go on is nobody's secret.
        (HELD, IDLE, None),
        # An ordinary start.
        (STARTING, IDLE, None),
        (RUNS, BACKUP, None),
        (RUNS, IDLE, None),
        (RUNS, libvirt.VIR_ERR_OPERATION_INVALID, None),
        (RUNS, libvirt.VIR_ERR_NO_SUPPORT, None),
        # It was held, and was gone when it was looked at closer.
        (HELD, libvirt.VIR_ERR_OPERATION_INVALID, Passage.LEFT),
        (HELD, libvirt.VIR_ERR_NO_DOMAIN, Passage.LEFT),
        (BY_A_USER, IDLE, None),
        (LEFT, IDLE, Passage.LEFT),
    ],
)
def test_passages(state: tuple[int, int], answer: Answer, expected: Passage | None) -> None:
    assert passage.of(Domain(answer), state, marked=True) is expected


@pytest.mark.parametrize("state", [RUNS, BY_A_USER])
def test_libvirt_is_not_asked_about_a_domain_that_nobody_moves(state: tuple[int, int]) -> None:
    domain = Domain(OUT)
    assert passage.of(domain, state, marked=False) is None
    assert domain.asked == 0


def test_a_busy_libvirt_is_not_an_answer() -> None:
    busy = Domain(libvirt.VIR_ERR_OPERATION_TIMEOUT)
    with pytest.raises(libvirt.libvirtError):
        passage.of(busy, HELD, marked=False)
