"""The desktops that are restarted elsewhere when this host fails: those that end with its lease."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from roost_common.contracts.desktop import DomainState
from roost_host_agent.hypervisor.driver import DomainView
from roost_host_agent.lease_file import GuardedDomain

REMEMBERED_S: Final = 120.0
"""A desktop stays on the list so long after it was put there, whatever a look says: the look may
have begun before its start ended, which takes a minute at most."""
_RUNS: Final = frozenset({DomainState.RUNNING, DomainState.PAUSED})


def ends(view: DomainView) -> bool:
    """Whether this desktop must not outlive the lease."""
    return view.mark.restart and view.state in _RUNS


class RestartedDesktops:
    """The list for the guard. One name too many on it does no harm: what does not run is not
    killed."""

    def __init__(self, now: Callable[[], float], earlier: Iterable[GuardedDomain] = ()) -> None:
        """``earlier``: of the run before this one; they may run still, until a look says more."""
        self._now = now
        self._names = {UUID(domain.uuid): domain.name for domain in earlier}
        self._put_at: dict[UUID, float] = {}

    def starting(self, desktop_id: UUID, name: str, *, restart: bool) -> None:
        """It is about to run; to be called, and the list written, before it does."""
        if restart:
            self._names[desktop_id] = name
            self._put_at[desktop_id] = self._now()
        else:
            self._names.pop(desktop_id, None)
            self._put_at.pop(desktop_id, None)

    def seen(self, view: DomainView) -> None:
        """One desktop was looked at: it may have come here by itself, by a migration."""
        if ends(view):
            self.starting(view.mark.desktop_id, view.mark.name, restart=True)

    def sweep(self, views: Iterable[DomainView]) -> None:
        """All desktops were looked at."""
        now = self._now()
        recent = {one for one, at in self._put_at.items() if now - at < REMEMBERED_S}
        found = {view.mark.desktop_id: view.mark.name for view in views if ends(view)}
        kept = {one: self._names[one] for one in recent if one not in found}
        self._names = found | kept
        self._put_at = {one: self._put_at[one] for one in recent}

    def domains(self) -> tuple[GuardedDomain, ...]:
        """As they stand in the lease file."""
        return tuple(
            GuardedDomain(str(desktop_id), name) for desktop_id, name in self._names.items()
        )
