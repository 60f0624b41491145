"""A host's power: what was ordered of it, and what its fence device answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.host import Health, HostPower
from roost_inventory.model.base import word

ASK_AGAIN: Final = timedelta(minutes=5)
"""How long an order may go unanswered: ha-monitor tries devices in turn, each for a while."""
WAKING_FOR: Final = timedelta(minutes=10)
"""How long a host that was switched on is expected to come up."""


class Powered:
    """Columns and transitions. While it is ordered off, a host takes no desktop, beats or not.

    That ends only with an answer: never by time, for an order that waits somewhere may still be
    carried out, and would take the desktops that the host was given meanwhile.
    """

    health: Mapped[Health]

    power: Mapped[HostPower] = mapped_column(word(HostPower))
    power_order: Mapped[int] = mapped_column(BigInteger)
    """Number of the last order; 0: there was none. Taken from the time, so that a host which was
    removed and is enrolled anew does not give numbers that were answered before."""
    power_asked_at: Mapped[datetime | None]
    power_refused_at: Mapped[datetime | None]
    domains: Mapped[int | None]
    """How many domains its last kept report named, whoever's they are; None: it could not tell."""

    def order_power(self, power: HostPower, now: datetime) -> None:
        """Another order; the caller sends it, and brings the state up to it."""
        self.power = power
        self.power_order = max(self.power_order + 1, int(now.timestamp()))
        self.power_asked_at = now

    def ask_again(self, now: datetime) -> bool:
        """Whether the order is to be repeated now."""
        open_ = self.power_order > 0 and not self._answered
        if not open_ or (self.power_asked_at and now - self.power_asked_at < ASK_AGAIN):
            return False
        self.power_asked_at = now
        return True

    def note_refused(self, power: HostPower, order: int, now: datetime) -> bool:
        """It stays as it was; False when that answers another order, or was answered before."""
        if order != self.power_order or power is not self.power:
            return False
        self.power = HostPower.ON if power is HostPower.OFF else HostPower.OFF
        self.power_refused_at = now
        return True

    def note_power(self, before: Health, switched: HostPower | None) -> None:
        """Its health is another; ``switched`` is what its device says, where it said anything."""
        if switched is not None:
            self.power = switched
        elif before is Health.OFF and self.health is not Health.OFF:
            # It lives: somebody woke it, whoever that was.
            self.power = HostPower.ON

    def is_waking(self, now: datetime) -> bool:
        """Whether it was switched on and is expected to come up."""
        expected = self.power is HostPower.ON and self.health is Health.OFF
        return (
            expected
            and self.power_asked_at is not None
            and (now - self.power_asked_at < WAKING_FOR)
        )

    @property
    def _answered(self) -> bool:
        off = self.health is Health.OFF
        return off if self.power is HostPower.OFF else not off
