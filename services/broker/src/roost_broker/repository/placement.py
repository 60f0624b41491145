"""Queries for what placement accepts: inventory's word, kept here."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from roost_broker.model import PlacementLimits
from roost_common.contracts.host import GuestSize, PlacementLimitsChanged
from roost_common.contracts.spec import DesktopSpec
from roost_common.db import AsyncSession, newest

_ID: Final = 1
_LIMITS: Final = newest(PlacementLimits, "revision", "largest")


class Placement:
    """The limits, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def accepts(self, spec: DesktopSpec) -> bool:
        """Whether a known host could ever run it; true while no host is known."""
        largest = await self._session.scalar(
            sa.select(PlacementLimits.largest).where(PlacementLimits.id == _ID)
        )
        return largest is None or any(
            GuestSize.model_validate(size).carries(spec) for size in largest
        )

    async def limits_changed(self, event: PlacementLimitsChanged) -> None:
        """Keep them unless newer ones are known."""
        largest = event.model_dump(mode="json")["largest"]
        row = {"id": _ID, "revision": event.revision, "largest": largest}
        await self._session.execute(_LIMITS, row)
