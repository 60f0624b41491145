"""What a cluster's policy does next: a pure function of what is known, and the time.

It is asked again in every pass, with whatever has become of the last answer. There is no memory
but times: when a desktop was moved, a host woken, emptied, refused; they keep it from going to
and fro. The balancer carries its actions out, and a dry run shows them.
"""

from __future__ import annotations

from datetime import datetime

from roost_inventory.draft import Draft
from roost_inventory.power_saving import empty, sleep
from roost_inventory.relief import hot, relieve
from roost_inventory.scheduling import Action, ClusterPolicy, Plan, View
from roost_inventory.waking import Wakers


def plan(view: View, now: datetime) -> Plan:
    """The actions to begin now.

    Whatever the policy, hosts are woken for desktops that find no room. Nothing is packed or
    switched off while anything is more urgent.
    """
    policy = view.scheduling.policy
    draft = Draft(view, now)
    actions: list[Action] = []
    notes: list[str] = []
    if policy is not ClusterPolicy.NONE:
        actions += relieve(draft)
        notes += [
            f"{name} is hot, and no move helps or may begin now."
            for name in hot(draft)
            if not draft.busy(name)
        ]
    wakers = Wakers(draft)
    unserved = wakers.for_all(view.waiting)
    actions = [*wakers.orders, *actions]
    if unserved:
        notes.append(f"No host that can be woken has room for {unserved[0].name}.")
    elif policy is ClusterPolicy.POWER_SAVING and not actions:
        off = sleep(draft)
        actions += empty(draft, notes) if off is None else [off]
    return Plan(tuple(actions), tuple(notes), unserved)
