"""What a message may call itself, by the way it came."""

from __future__ import annotations

import pytest

from roost_common import topology
from roost_common.contracts.base import Message
from roost_common.contracts.desktop import DeleteDesktop, DomainObserved, EnsureDesktop
from roost_common.contracts.display import RebootDesktop
from roost_common.contracts.host import HostBeat, HostFenced, LeaseGranted

QUERIES = topology.query_queue("node-a").name


@pytest.mark.parametrize(
    ("message", "exchange", "key", "genuine"),
    [
        (HostFenced, topology.EVENTS, "host.fenced.v1", True),
        (HostFenced, topology.EVENTS, "domain.observed.v1", False),
        (HostFenced, topology.EVENTS, "host.fenced.v1.node-a", False),
        (HostFenced, topology.TELEMETRY, "host.fenced.v1", False),
        (HostFenced, "roost.host-agent.node-a", "host.fenced.v1", False),
        (DomainObserved, topology.EVENTS, "domain.observed.v1", True),
        (HostBeat, topology.TELEMETRY, "host.beat.v1", True),
        (LeaseGranted, topology.TELEMETRY, "lease.granted.v1.node-a", True),
        (LeaseGranted, topology.TELEMETRY, "host.beat.v1", False),
        (EnsureDesktop, topology.COMMANDS, "desktop.ensure.v1.node-a.site", True),
        (EnsureDesktop, topology.COMMANDS, "desktop.ensure.v1", False),
        (DeleteDesktop, topology.COMMANDS, "desktop.delete.v1", True),
        (RebootDesktop, topology.DEFAULT, QUERIES, True),
        (RebootDesktop, topology.EVENTS, "domain.observed.v1", False),
        # Put into the queue by hand, by somebody who may say anything.
        (HostFenced, topology.DEFAULT, "roost.inventory", True),
    ],
)
def test_a_message_is_believed_by_its_exchange_and_key(
    message: type[Message], exchange: str, key: str, genuine: bool
) -> None:
    assert topology.is_genuine(message, exchange, key, was_dead=False) is genuine


def test_what_was_dead_is_believed_only_when_put_back_by_hand() -> None:
    key = HostFenced.name
    assert not topology.is_genuine(HostFenced, topology.EVENTS, key, was_dead=True)
    assert topology.is_genuine(HostFenced, topology.DEFAULT, "roost.inventory", was_dead=True)
