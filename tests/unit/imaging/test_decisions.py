"""Pure decisions: disks, capacity, saving, names, transitions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.contracts.base import Problem
from roost_common.contracts.disk import EnsureDisk
from roost_common.errors import Conflict, Invalid
from roost_common.outbox import INBOX_KEPT
from roost_imaging import capacity, layout, storage_files
from roost_imaging.disk_plan import DiskFacts, Step, decide
from roost_imaging.layout import Layout, VersionPart
from roost_imaging.model import Disk, Job, TemplateVersion
from roost_imaging.saving import BaseUse, saved_bytes, total_saved_bytes
from roost_imaging.single import TOMBSTONES_KEPT
from roost_imaging.states import DiskState, JobState, StorageState
from roost_imaging.storage_files import Capacity

GIB = 1 << 30
BASE, OTHER = uuid4(), uuid4()
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def wish(generation: int, *, present: bool = True, template: UUID = BASE) -> EnsureDisk:
    return EnsureDisk(
        disk_id=UUID(int=1),
        template_id=template,
        template_version=1,
        generation=generation,
        present=present,
    )


def known(state: DiskState, generation: int = 2) -> DiskFacts:
    return DiskFacts(generation, state, BASE, 1)


@pytest.mark.parametrize(
    ("message", "facts", "step"),
    [
        (wish(1), None, Step.MAKE),
        (wish(1, present=False), None, Step.REMOVE),
        *[(wish(1), known(state), Step.DROP) for state in DiskState],
        *[(wish(1, present=False), known(state), Step.DROP) for state in DiskState],
        (wish(2), known(DiskState.PENDING), Step.MAKE),
        (wish(2), known(DiskState.READY), Step.CONFIRM),
        (wish(2, template=OTHER), known(DiskState.READY), Step.REFUSE_BASE),
        (wish(2, template=OTHER), known(DiskState.PENDING), Step.REFUSE_BASE),
        (wish(2), known(DiskState.DELETING), Step.DROP),
        (wish(2), known(DiskState.DELETED), Step.DROP),
        (wish(3), known(DiskState.PENDING), Step.MAKE),
        (wish(3, template=OTHER), known(DiskState.READY), Step.MAKE),
        (wish(3), known(DiskState.DELETING), Step.REFUSE_BUSY),
        (wish(3), known(DiskState.DELETED), Step.MAKE),
        *[
            (wish(generation, present=False), known(state), Step.REMOVE)
            for state in (DiskState.PENDING, DiskState.READY, DiskState.DELETING)
            for generation in (2, 3)
        ],
        (wish(2, present=False), known(DiskState.DELETED), Step.CONFIRM_REMOVED),
        (wish(3, present=False), known(DiskState.DELETED), Step.CONFIRM_REMOVED),
    ],
)
def test_what_a_wish_asks_for(message: EnsureDisk, facts: DiskFacts | None, step: Step) -> None:
    assert decide(message, facts) is step


@pytest.mark.parametrize(
    ("free", "before", "after"),
    [
        (2 * GIB, StorageState.UP, StorageState.UP),
        (GIB, StorageState.UP, StorageState.UP),
        (GIB - 1, StorageState.UP, StorageState.FULL),
        (GIB, StorageState.FULL, StorageState.FULL),
        (int(1.06 * GIB), StorageState.FULL, StorageState.UP),
        (GIB - 1, StorageState.UNAVAILABLE, StorageState.FULL),
        (GIB, StorageState.UNAVAILABLE, StorageState.UP),
        (None, StorageState.UP, StorageState.UNAVAILABLE),
        (None, StorageState.FULL, StorageState.UNAVAILABLE),
    ],
)
def test_the_state_of_a_domain(free: int | None, before: StorageState, after: StorageState) -> None:
    found = None if free is None else Capacity(10 * GIB, 10 * GIB - free, free)
    assert capacity.state_of(found, GIB, before) is after


def test_the_saving_of_the_product_s_example() -> None:
    """10 GB base and 100 desktops of 1 GB: 110 GB instead of 1 000 GB."""
    assert saved_bytes(BaseUse(10 * GIB, 100, 100 * GIB)) == (1000 - 110) * GIB


@pytest.mark.parametrize(
    ("use", "saved"),
    [
        (BaseUse(10, 0, 0), 0),
        (BaseUse(10, 1, 1), 0),
        (BaseUse(10, 2, 2), 8),
        (BaseUse(10, 2, 100), 0),
        (BaseUse(0, 5, 0), 0),
    ],
)
def test_small_savings(use: BaseUse, saved: int) -> None:
    assert saved_bytes(use) == saved


@given(st.lists(st.builds(BaseUse, *[st.integers(0, 1 << 50)] * 3)))
def test_no_version_takes_another_one_s_saving_away(uses: list[BaseUse]) -> None:
    assert total_saved_bytes(uses) >= max([saved_bytes(use) for use in uses], default=0)


def test_names_in_a_domain() -> None:
    place = Layout(UUID(int=9), Path("/s"))
    disk, template, job = UUID(int=1), UUID(int=2), UUID(int=3)
    assert place.disk_file(disk, 4) == Path(f"/s/desktops/{disk}/4.qcow2")
    assert place.version_file(template, 2) == Path(f"/s/templates/{template}/v2.qcow2")
    part = place.version_part(template, 2, job, 3)
    assert layout.version_part(part.name) == VersionPart(2, job, 3)
    assert layout.generation(place.disk_file(disk, 4).name) == 4
    overlay_part = place.disk_part(disk, 4, job).name
    assert layout.OVERLAY_PART.match(overlay_part)
    for name in (".roost-storage", "v2.qcow2", overlay_part, ".v2.x.1.part"):
        assert layout.version_part(name) is None
    for name in ("v2.qcow2", overlay_part, "4.qcow2.bak", "-4.qcow2"):
        assert layout.generation(name) is None


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("main", ("main",)),
        ("/root/main", ("main",)),
        ("/root", ()),
        ("a/b", ("a", "b")),
        ("..", None),
        ("/root/../etc", None),
        ("/rootless", None),
        ("a\nb", None),
    ],
)
def test_domains_lie_below_the_root(path: str, parts: tuple[str, ...] | None) -> None:
    if parts is not None:
        assert storage_files.parts_of(path, Path("/root")) == parts
        return
    with pytest.raises(Invalid) as caught:
        storage_files.parts_of(path, Path("/root"))
    assert caught.value.code == "storage.path-outside"


def job(state: JobState, attempt: int = 0) -> Job:
    return Job(id=uuid4(), state=state, attempt=attempt, percent=40.0, kind="template.import")


def test_a_job_s_life() -> None:
    one = job(JobState.QUEUED)
    one.take(UUID(int=1), NOW)
    one.take(UUID(int=2), NOW)
    assert (one.attempt, one.worker, one.percent) == (2, UUID(int=2), 0.0)
    one.give_back()
    assert (one.state, one.attempt, one.worker) == (JobState.QUEUED, 1, None)
    one.take(UUID(int=3), NOW)
    one.finish(JobState.FAILED, NOW, Problem(code="image.corrupt", detail="x"))
    assert one.finished
    assert one.problem == {"code": "image.corrupt", "detail": "x"}


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_an_ended_job_stays_ended(state: JobState) -> None:
    one = job(state)
    moves: list[Callable[[], None]] = [
        lambda: one.take(UUID(int=1), NOW),
        lambda: one.finish(JobState.DONE, NOW),
    ]
    for move in moves:
        with pytest.raises(Conflict) as caught:
            move()
        assert caught.value.code == "job.finished"


def test_a_queued_job_is_not_done() -> None:
    with pytest.raises(Conflict):
        job(JobState.QUEUED).finish(JobState.DONE, NOW)


def test_a_tombstone_holds_nothing() -> None:
    disk = Disk(
        id=uuid4(),
        generation=1,
        state=DiskState.READY,
        storage_id=uuid4(),
        template_id=BASE,
        template_version=1,
        virtual_bytes=5,
        used_bytes=5,
    )
    disk.mark_deleting(3)
    disk.mark_deleted(NOW)
    assert (disk.state, disk.generation) == (DiskState.DELETED, 3)
    assert disk.deleted_at == NOW
    assert (disk.storage_id, disk.template_id, disk.template_version) == (None, None, None)
    with pytest.raises(Conflict):
        disk.mark_ready(1, NOW)


def test_a_disk_that_is_wanted_again_is_no_tombstone() -> None:
    disk = Disk(id=uuid4(), generation=1, state=DiskState.DELETED, deleted_at=NOW)
    disk.want(TemplateVersion(template_id=BASE, version=1, virtual_bytes=5), uuid4(), 2)
    assert disk.deleted_at is None
    gone = Disk(id=uuid4(), generation=1, state=DiskState.DELETED, deleted_at=NOW)
    gone.mark_deleting(2)
    assert gone.deleted_at is None


def test_a_tombstone_outlives_every_message() -> None:
    assert TOMBSTONES_KEPT > INBOX_KEPT
