"""What a pool can do with one of its desktops now. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

from roost_common.contracts.base import Problem
from roost_common.contracts.desktop import DesktopState


class Phase(StrEnum):
    """A pool's desktop as its pool sees it."""

    COMING = "coming"
    """On its way to be free: being made, started, or reset after a user."""
    FREE = "free"
    """Runs, with a disk and in a run that nobody has used: the next launch may have it."""
    ASSIGNED = "assigned"
    """A session holds it."""
    TROUBLED = "troubled"
    """On its way, and something keeps it from arriving."""
    LEAVING = "leaving"
    """Told to go, not gone yet."""
    REFUSED = "refused"
    """Was never made; its name is avoided for a while."""


SITE_WIDE: Final = ("placement.", "storage.", "template.")
"""Problems that another desktop of the same kind would have as well."""
SILENT_HOST: Final = Problem(
    code="host.unreachable", detail="The desktop's host does not answer for now."
)
TEMPLATE_GONE: Final = Problem(
    code="template.unknown", detail="The pool's template, or this version of it, is gone."
)


def site_wide(code: str) -> bool:
    """Whether making one more desktop would end in the same problem."""
    return code.startswith(SITE_WIDE)


def phase_of(
    *,
    leaving: bool,
    refused: bool,
    assigned: bool,
    state: DesktopState | None,
    reachable: bool,
    boot_id: UUID | None,
    dirty_boot_id: UUID | None,
    disk_generation: int,
    wanted_generation: int,
    problem: bool,
) -> Phase:
    """The phase that follows from what is wanted of a desktop and what inventory says of it.

    ``dirty_boot_id`` is the run in which its last user was; ``wanted_generation`` the disk that
    nobody has used. ``reachable``: its host and the address of its screen are known.
    """
    if refused:
        return Phase.REFUSED
    if leaving:
        return Phase.LEAVING
    if assigned:
        return Phase.ASSIGNED
    clean = disk_generation >= wanted_generation and boot_id != dirty_boot_id
    if state is DesktopState.RUNNING and reachable and boot_id is not None and clean:
        return Phase.FREE
    if problem or state is DesktopState.UNKNOWN:
        return Phase.TROUBLED
    return Phase.COMING
