"""Which event a change is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from tests.unit.inventory.stage import SMALL, TEMPLATE

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import (
    DesktopChanged,
    DesktopCreated,
    DesktopDeleted,
    DesktopReimaged,
    DesktopStarted,
    DesktopStartRefused,
    DesktopState,
    DesktopStopped,
    DesktopView,
    Power,
    StopReason,
)
from roost_inventory.announce import differs, event_for

BOOT, OTHER = UUID(int=1), UUID(int=2)
PROBLEM = Problem(code="placement.no-host", detail="None.")


def view(**facts: Any) -> DesktopView:
    base = {
        "id": UUID(int=9),
        "name": "d",
        "revision": 1,
        "generation": 1,
        "state": DesktopState.STARTING,
        "power": Power.ON,
        "template": TEMPLATE,
        "spec": SMALL,
        "disk_generation": 1,
    }
    return DesktopView(**{**base, **facts})


RUNS = view(state=DesktopState.RUNNING, boot_id=BOOT, host="n1")


@pytest.mark.parametrize(
    ("before", "after", "renewed", "event"),
    [
        (None, view(), False, DesktopCreated),
        (view(), RUNS, False, DesktopStarted),
        (RUNS, RUNS.model_copy(update={"boot_id": OTHER}), False, DesktopStarted),
        (RUNS, view(), False, DesktopStopped),
        (RUNS, view(problem=PROBLEM), False, DesktopStopped),
        (RUNS, RUNS.model_copy(update={"state": DesktopState.UNKNOWN}), False, DesktopChanged),
        (view(state=DesktopState.PROVISIONING), view(), False, DesktopChanged),
        (view(state=DesktopState.PROVISIONING), view(disk_generation=2), True, DesktopReimaged),
        (view(), view(problem=PROBLEM), False, DesktopStartRefused),
        (view(problem=PROBLEM), view(), False, DesktopChanged),
        (
            view(power=Power.OFF),
            view(power=Power.OFF, problem=PROBLEM),
            False,
            DesktopChanged,
        ),
        (RUNS, RUNS.model_copy(update={"problem": PROBLEM}), False, DesktopChanged),
        (RUNS, view(state=DesktopState.DELETED), False, DesktopDeleted),
    ],
)
def test_event_for(
    before: DesktopView | None, after: DesktopView, renewed: bool, event: type[Any]
) -> None:
    said = event_for(before, after, disk_renewed=renewed, why=StopReason.CRASHED)
    assert type(said) is event
    assert said.desktop == after
    if isinstance(said, DesktopStopped):
        assert said.reason is StopReason.CRASHED


def test_a_generation_alone_is_nobody_elses_business() -> None:
    assert not differs(view(), view(generation=5, revision=7))
    assert differs(view(), view(host="n1"))
