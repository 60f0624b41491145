"""What imaging says of disks: twice, out of order, of generations that nobody wants any more."""

from __future__ import annotations

from functools import partial
from random import Random
from uuid import UUID

import pytest
from tests.integration.inventory.site import Site
from tests.unit.inventory.stage import FULL, disk_ready, disk_refused

from roost_common.contracts.base import Message
from roost_common.contracts.desktop import (
    DeleteDesktop,
    DesktopDeleted,
    DesktopState,
    ReimageDesktop,
)
from roost_common.contracts.disk import DiskDeleted

pytestmark = pytest.mark.integration

# Not where the disk is: who listens to a word that is too late would be found out.
ready = partial(disk_ready, storage="/elsewhere")
refused = partial(disk_refused, problem=FULL)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_order_the_newest_disk_is_the_desktops(site: Site, seed: int) -> None:
    """Words of the disk before, of a removal that is not wanted, and of a stranger's disk."""
    await site.add_node("n1")
    desktop = await site.create()
    await site.settle()
    await site.tell(ReimageDesktop(desktop_id=desktop, disk_generation=2))
    await site.settle()
    running = await site.row(desktop)
    assert (running.state, running.disk_generation) == (DesktopState.RUNNING, 2)
    order: list[Message] = [
        refused(desktop, 1),
        ready(desktop, 1),
        refused(desktop, 2),
        ready(desktop, 2),
        DiskDeleted(disk_id=desktop, generation=1),
        DiskDeleted(disk_id=desktop, generation=2),
        DiskDeleted(disk_id=UUID(int=4711), generation=1),
    ] * 2
    Random(seed).shuffle(order)
    for message in order:
        await site.tell(message)
        await site.settle()
    after = await site.row(desktop)
    assert (after.state, after.boot_id) == (DesktopState.RUNNING, running.boot_id)
    assert (after.disk_ready, after.disk_path) == (2, running.disk_path)
    assert after.problem is None


@pytest.mark.parametrize("seed", range(4))
async def test_a_deleted_desktop_comes_back_by_no_late_word(site: Site, seed: int) -> None:
    await site.add_node("n1")
    desktop = await site.create()
    await site.settle()
    await site.tell(DeleteDesktop(desktop_id=desktop))
    await site.settle()
    order: list[Message] = [
        ready(desktop, 1),
        refused(desktop, 1),
        refused(desktop, 2),
        DiskDeleted(disk_id=desktop, generation=2),
    ] * 2
    Random(seed).shuffle(order)
    for message in order:
        await site.tell(message)
        await site.settle()
    assert len(await site.spoken(DesktopDeleted)) == 1
    assert (await site.row(desktop)).state is DesktopState.DELETED
