"""What a `disk.ensure.v1` asks for, given what is known of the disk. Pure.

========================  ======================  ===========================================
message against row       row                     outcome
========================  ======================  ===========================================
older generation          any                     dropped: a newer wish has been seen
present, same generation  pending                 made (again): the maker died or was refused
present, same generation  ready, same base        confirmed, if the file is still there
present, same generation  ready, another base     refused: a generation has one base for ever
present, same generation  deleting, deleted       dropped: deletion has the last word
present, newer            deleting                refused for now: its files are just going
present, newer or new     any other or none       made
absent, same or newer     none, pending, ready    removed; the row stays as a tombstone
absent, same or newer     deleting                removed (again)
absent, same or newer     deleted                 confirmed
========================  ======================  ===========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from roost_common.contracts.disk import EnsureDisk
from roost_imaging.states import DiskState


class Step(StrEnum):
    """What to do about a message."""

    DROP = "drop"
    MAKE = "make"
    CONFIRM = "confirm"
    REFUSE_BASE = "refuse-base"
    REFUSE_BUSY = "refuse-busy"
    REMOVE = "remove"
    CONFIRM_REMOVED = "confirm-removed"


@dataclass(frozen=True)
class DiskFacts:
    """What is known of a disk."""

    generation: int
    state: DiskState
    template_id: UUID | None
    template_version: int | None


def decide(wish: EnsureDisk, known: DiskFacts | None) -> Step:
    """The step that follows from the table above."""
    if known is not None and wish.generation < known.generation:
        return Step.DROP
    if not wish.present:
        gone = known is not None and known.state is DiskState.DELETED
        return Step.CONFIRM_REMOVED if gone else Step.REMOVE
    if known is None or wish.generation > known.generation:
        busy = known is not None and known.state is DiskState.DELETING
        return Step.REFUSE_BUSY if busy else Step.MAKE
    if known.state in (DiskState.DELETING, DiskState.DELETED):
        return Step.DROP
    if (known.template_id, known.template_version) != (wish.template_id, wish.template_version):
        return Step.REFUSE_BASE
    return Step.CONFIRM if known.state is DiskState.READY else Step.MAKE
