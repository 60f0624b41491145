"""A desktop's transitions by order of people and services."""

from __future__ import annotations

from datetime import datetime

from roost_common.contracts.desktop import Power, StopMode
from roost_common.contracts.spec import DesktopSpec, TemplateRef
from roost_common.errors import Conflict
from roost_inventory.model.desktop_facts import DesktopFacts


class Ordered(DesktopFacts):
    """What should be."""

    def order_power(
        self, power: Power, ordered_at: datetime, *, stop: StopMode, grace_s: int
    ) -> bool:
        """Make it run or stop; False when a newer order came first or it is being deleted."""
        if self.deleting or ordered_at < self.power_ordered_at:
            return False
        self.power_ordered_at = ordered_at
        if power is Power.OFF:
            self.stop, self.grace_s = stop, grace_s
            self.restarting = False
        if power is not self.power:
            self.power = power
            self.generation += 1
            self.retry_now()
        return True

    def order_reimage(self, disk_generation: int, template: TemplateRef | None) -> bool:
        """Give it a fresh disk; False when it is there already or is being deleted."""
        if self.deleting or disk_generation <= self.disk_generation:
            return False
        self.disk_generation = disk_generation
        self.restarting = False
        self.template = template or self.template
        self.generation += 1
        self.problem = None
        self.retry_now()
        if self.host is None:
            self._nothing_asked()
        return True

    def order_spec(self, spec: DesktopSpec) -> None:
        """Change its hardware from its next start on."""
        if self.deleting:
            raise Conflict("desktop.deleting", "{name} is being deleted.", name=self.name)
        if spec != self.spec:
            self.spec = spec
            self.priority = spec.ha.priority
            self.generation += 1
            self.retry_now()

    def order_deletion(self) -> bool:
        """Take it away with its disk; False when that was ordered before."""
        if self.deleting:
            return False
        self.deleting, self.restarting = True, False
        self.power = Power.OFF
        self.generation += 1
        self.problem = None
        self.retry_now()
        if self.host is None:
            self._nothing_asked()
        return True

    def retry_now(self) -> None:
        """Somebody wants something now: what failed before is no reason to wait."""
        self.failures = 0
        self.retry_at = None
        self.awaits_room = False
        if self._disk_is_ready and not self.is_up:
            self.problem = None
