"""What to do about one desktop: pure functions of what should be, what is, and the time.

What should be comes as a whole (`EnsureDesktop`), what is from the hypervisor (`DomainView`), so
a command that comes twice, late or out of order changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from roost_common.contracts.desktop import DomainState, EnsureDesktop, Power, StopMode
from roost_host_agent.hypervisor.driver import DomainView


@dataclass(frozen=True, slots=True)
class Start:
    """`Hypervisor.start` with the command's desired state."""


@dataclass(frozen=True, slots=True)
class Remove:
    """`Hypervisor.remove`; with ``stop_by`` the guest is asked first."""

    stop_by: datetime | None = None


Action = Start | Remove


def is_outdated(command: EnsureDesktop, observed: DomainView | None, removed: int) -> bool:
    """Whether a higher generation was applied before.

    The mark of a domain remembers its own; ``removed`` is the generation with which the desktop
    was taken off this node last, as far as this agent remembers (0 otherwise). An agent that has
    just started does not, and may start a desktop for a command that was overtaken: inventory
    sees it running in an old generation and sends `off` once more, and QEMU's image lock keeps a
    disk from being written by two.
    """
    applied = 0 if observed is None else observed.mark.generation
    return command.generation < max(applied, removed)


def plan(command: EnsureDesktop, observed: DomainView | None, now: datetime) -> tuple[Action, ...]:
    """The actions that make it so; none when it is so."""
    if command.power is Power.ON:
        return _on(command, observed)
    return _off(command, observed, now)


def is_over(observed: DomainView, now: datetime) -> bool:
    """Whether the domain is to be removed without a new command: the guest was asked to shut
    down, and has done so or has had its time."""
    stop_by = observed.mark.stop_by
    if stop_by is None:
        return False
    return observed.state is DomainState.SHUTOFF or now >= stop_by


def _on(command: EnsureDesktop, observed: DomainView | None) -> tuple[Action, ...]:
    if observed is None:
        return (Start(),)
    mark = observed.mark
    if command.disk is not None and command.disk.path != mark.disk:
        # On the wrong disk it is another desktop, whatever it is called and whatever it does.
        return (Remove(), Start())
    if observed.state is not DomainState.RUNNING:
        # Also after the guest has shut itself down: whoever wants it on now wants a new run. A
        # paused guest is continued.
        return (Start(),)
    if command.generation == mark.generation and mark.stop_by is None:
        return ()
    # The hardware of a running guest stays; the definition is what its next start will be.
    return (Start(),)


def _off(command: EnsureDesktop, observed: DomainView | None, now: datetime) -> tuple[Action, ...]:
    if observed is None:
        return ()
    hard = command.stop is StopMode.POWEROFF or observed.state is DomainState.SHUTOFF
    if hard:
        return (Remove(),)
    stop_by = now + timedelta(seconds=command.grace_s)
    if observed.mark.stop_by is not None:
        # Asking again presses the button again, because a guest that was just booting may have
        # missed it. It does not prolong the time.
        stop_by = min(stop_by, observed.mark.stop_by)
    return (Remove(stop_by if stop_by > now else None),)
