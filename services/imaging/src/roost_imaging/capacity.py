"""What a look at a storage domain means. Pure."""

from __future__ import annotations

from typing import Final

from roost_imaging.states import StorageState
from roost_imaging.storage_files import Capacity

RECOVERY: Final = 1.05
"""A full domain is up again with this much of the reserve free, so that it does not flap."""


def state_of(found: Capacity | None, reserve: int, before: StorageState) -> StorageState:
    """The state of a domain that was in ``before``; ``found`` is None when it did not answer."""
    if found is None:
        return StorageState.UNAVAILABLE
    needed = reserve * RECOVERY if before is StorageState.FULL else reserve
    return StorageState.FULL if found.free < needed else StorageState.UP
