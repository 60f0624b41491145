"""Which nodes are to end their desktops themselves when their lease ends. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from roost_ha_monitor.detector import Pulse


def armed(
    pulses: Mapping[str, Pulse], with_device: Collection[str], *, disarmed: bool
) -> frozenset[str]:
    """Of the nodes that beat now, those that are granted an *armed* lease.

    A node with a fence device needs none: the device is faster and surer, and a node that is cut
    off goes on until it is used. Nor does anybody while high availability is disarmed, or while
    the nodes that beat do not all see each other in one shared directory: a node that cannot see
    whether its peers are granted would end everything whenever ha-monitor, its database or the bus
    are away for longer than a lease.
    """
    witnesses = {pulse.witness for pulse in pulses.values()}
    if disarmed or None in witnesses or len(witnesses) > 1:
        return frozenset()
    return frozenset(
        node for node, pulse in pulses.items() if pulse.lease_s > 0 and node not in with_device
    )


def may_arm(pulse: Pulse, *, armed_already: bool) -> bool:
    """Whether a node that is to be armed may be, with this beat; ``armed_already``: its row says
    armed for this run.

    From unarmed to armed only with a beat that says unarmed: an unarmed grant may still be on its
    way to a node whose beat says armed, and that beat must not be counted on later for a grant
    that the node has given up meanwhile.
    """
    return armed_already or not pulse.lease_armed
