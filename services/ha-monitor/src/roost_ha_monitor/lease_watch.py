"""When a node's own lease may be counted on to have ended. Pure.

The node counts from when it *sent* the last beat that was granted, this process from when it
*received* the last one, which is later. Whatever another copy of ha-monitor may have granted in
the meantime was granted before this one began to lead; and while the bus was gone the node was
promised a whole lease from when it is heard again. Nodes that see in their shared directory that
all of them are silent hold on together (the agent's `lease`), and let go of that only some time
after one of them is heard. So the count begins at the latest of these, and the margin pays for a
node whose clock runs slower and for the time that killing takes.

A restart of the agent does not lengthen it: the guard that ends the desktops is a process of its
own and counts on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from roost_ha_monitor.detector import Pulse

MARGIN_S: Final = 10.0
"""Between the node's count and ours: drift of two clocks over a minute is milliseconds, a guard
that must kill a hundred processes on a machine without memory takes seconds."""


@dataclass(frozen=True)
class Written:
    """What the host's row says of its lease, written by whoever decided then."""

    armed: bool
    """Armed grants may have been sent, and no unarmed one since."""
    agent_id: UUID | None
    """The last run of its agent that was heard by who decided."""
    armed_sequence: int = 0
    """Of the last beat of that run before the first armed grant: it said unarmed."""


def due(
    pulse: Pulse | None,
    written: Written,
    *,
    observing_since: float | None,
    leading_since: float | None,
    margin_s: float = MARGIN_S,
) -> float | None:
    """From when on the lease is sure to be over, as monotonic time; None: it never is.

    ``observing_since``: since when this copy has heard hosts that share the node's directory,
    without a break. The lease counts only where the last beat said that the node holds an armed
    grant, this copy heard that beat itself, and the row knows of no later run, of no disarming,
    and of no arming anew since that beat.
    """
    if pulse is None or observing_since is None or leading_since is None:
        return None
    if not (pulse.lease_armed and pulse.lease_s > 0):
        return None
    if not written.armed or written.agent_id != pulse.agent_id:
        return None
    if pulse.sequence <= written.armed_sequence:
        return None
    return max(pulse.arrived_at, observing_since, leading_since) + pulse.lease_s + margin_s
