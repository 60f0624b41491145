"""Moves from hot hosts to cool ones. Pure.

Every move lowers the pressure of the busier of the two hosts by more than it costs and makes no
other host hot, so under constant load they come to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from roost_inventory.draft import CALM, Draft, cost
from roost_inventory.scheduling import ClusterPolicy, Guest, Migrate


class _Choice(NamedTuple):
    guest: Guest
    target: str
    before: float
    after: float
    """Pressure of the hot host without it."""

    @property
    def rank(self) -> tuple[bool, float, str]:
        """Those whose move is enough come first, the cheapest of them; then the greatest relief."""
        enough = self.after < 1
        return (not enough, self.guest.copy_mib if enough else self.after, self.guest.name)


def hot(draft: Draft) -> list[str]:
    """Hosts over a high mark for the whole duration, the hottest first."""
    found = [name for name in draft.awake() if draft.measured(name) and draft.pressure(name) >= 1]
    return sorted(found, key=lambda name: (-draft.pressure(name), name))


def relieve(draft: Draft) -> Iterator[Migrate]:
    """Draft what can be begun now."""
    for name in hot(draft):
        while draft.pressure(name) >= 1 and draft.slots(name) > 0:
            choice = best(draft, name)
            if choice is None:
                break
            yield draft.move(choice.guest, choice.target, _reason(draft, name, choice))


def best(draft: Draft, name: str) -> _Choice | None:
    """The desktop to take off a hot host, and where to."""
    before = draft.pressure(name)
    targets = _targets(draft, name)
    choices = []
    for guest in draft.guests[name].values():
        if not draft.movable(guest):
            continue
        worth = before - cost(guest)
        after = draft.pressure_with(name, guest, -1)
        if after > worth:
            continue
        target = next((one for one in targets if draft.takes(one, guest, min(CALM, worth))), None)
        if target is not None:
            choices.append(_Choice(guest, target, before, after))
    return min(choices, key=lambda one: one.rank, default=None)


def _targets(draft: Draft, name: str) -> list[str]:
    """As the policy likes them: the coolest first, or for power saving the fullest."""
    sign = -1 if draft.view.scheduling.policy is ClusterPolicy.POWER_SAVING else 1
    cool = [one for one in draft.awake() if one != name and draft.pressure(one) < CALM]
    return sorted(cool, key=lambda one: (sign * draft.pressure(one), one))


def _reason(draft: Draft, name: str, choice: _Choice) -> str:
    rules, guest = draft.view.scheduling, choice.guest
    cpu, memory = draft.share(guest, name)
    by_cpu = draft.cpu[name] / rules.cpu_high_percent
    if by_cpu >= draft.memory[name] / rules.memory_high_percent:
        use, mark, part, what = draft.cpu[name], rules.cpu_high_percent, cpu, "processors"
    else:
        use, mark, part, what = draft.memory[name], rules.memory_high_percent, memory, "memory"
    return (
        f"{name} uses {use:.0f} % of its {what} ({mark} % is hot), {guest.name} {part:.0f} %; "
        f"{choice.target} has room for it. {guest.copy_mib} MiB are copied."
    )
