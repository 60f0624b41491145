"""What placement accepts at most, as others learn of it."""

from __future__ import annotations

import httpx
import pytest
from tests.integration.inventory.conftest import NewCopy
from tests.integration.inventory.site import Site

from roost_common.contracts.host import GuestSize, HostDown, PlacementLimitsChanged
from roost_inventory.limits import SAY_AGAIN, Limits

pytestmark = pytest.mark.integration

EIGHT = GuestSize(vcpus=8, memory_mib=8192)


async def test_limits_follow_the_hosts_and_each_change_is_said_once(
    site: Site, http: httpx.AsyncClient
) -> None:
    limits = Limits(site.unit, site.settings)
    await limits.step()
    await site.add_node("n1", cpus=8, max_vcpus=8)
    await site.add_node("stranger", cpus=96, memory_mib=1 << 20)  # not approved: no promise
    for _ in range(2):
        await limits.step()
    big = await site.add_node("n2", cpus=16, max_vcpus=16, memory_mib=16384)
    await limits.step()
    down = HostDown(node="n2", sequence=2, since=site.clock.now(), reason="silent")
    await site.tell(down)
    await limits.step()
    big.memory_mib = 4096
    await site.tell(big.report())
    await limits.step()
    assert (await http.delete("/api/v1/hosts/n2")).status_code == 204
    await limits.step()
    said = await site.spoken(PlacementLimitsChanged)
    assert [one.largest for one in said] == [
        None,
        (EIGHT,),
        (GuestSize(vcpus=16, memory_mib=16384),),
        (EIGHT, GuestSize(vcpus=16, memory_mib=4096)),
        (EIGHT,),
    ]
    assert [one.revision for one in said] == [1, 2, 3, 4, 5]


async def test_they_are_said_again_by_each_new_process_and_now_and_then(new_copy: NewCopy) -> None:
    first, second = new_copy(), new_copy()
    await first.add_node("n1", cpus=8, max_vcpus=8)
    limits = [Limits(copy.unit, copy.settings) for copy in (first, second)]
    for _ in range(2):
        for one in limits:
            await one.step()
    first.clock.advance(SAY_AGAIN.total_seconds())
    for one in limits:
        await one.step()
    said = await first.spoken(PlacementLimitsChanged)
    assert [(one.revision, one.largest) for one in said] == [(1, (EIGHT,))] * 3
