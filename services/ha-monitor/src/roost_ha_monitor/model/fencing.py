"""What switches hosts, who asked for it, and whether anything may be fenced at all."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from roost_common.contracts.base import REGISTRY, Message, Problem
from roost_common.contracts.host import HostPower, HostPowerRefused
from roost_ha_monitor.model.base import Base, text_enum


class FenceDevice(Base):
    """One of a host's fence devices; the one with the lowest position is tried first."""

    __tablename__ = "fence_devices"

    node: Mapped[str] = mapped_column(sa.String(253), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    agent: Mapped[str] = mapped_column(sa.String(64))
    options: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """All of them, passwords or not, as JSON, sealed."""
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(sa.String(255))
    checked_at: Mapped[datetime | None]
    problem: Mapped[str] = mapped_column(sa.Text, default="")
    """Why its last check failed; empty: it did not."""


class OrderState(StrEnum):
    """Of an order to switch a host."""

    WAITING = "waiting"
    ANSWERED = "answered"


class PowerOrder(Base):
    """The newest order to switch a host on purpose, and its answer."""

    __tablename__ = "power_orders"

    node: Mapped[str] = mapped_column(sa.String(253), primary_key=True)
    number: Mapped[int] = mapped_column(sa.BigInteger)
    power: Mapped[HostPower] = mapped_column(text_enum(HostPower))
    agent_id: Mapped[UUID | None]
    asked_at: Mapped[datetime]
    state: Mapped[OrderState] = mapped_column(text_enum(OrderState), default=OrderState.WAITING)
    answer_name: Mapped[str] = mapped_column(sa.String(64), default="")
    answer: Mapped[dict[str, Any] | None]

    def done(self, fact: Message) -> Message:
        """It is answered; returns the answer."""
        self.state, self.answer_name = OrderState.ANSWERED, fact.name
        self.answer = fact.model_dump(mode="json")
        return fact

    def refuse(self, problem: Problem) -> Message:
        """It cannot be done, and the host is left as it is."""
        return self.done(
            HostPowerRefused(node=self.node, power=self.power, order=self.number, problem=problem)
        )

    @property
    def answered(self) -> Message | None:
        """The answer, to be given again; None while there is none."""
        if self.state is not OrderState.ANSWERED:
            return None
        return REGISTRY[self.answer_name].model_validate(self.answer)


class Arming(Base):
    """Whether high availability may act; one row, or none as long as nobody switched it."""

    __tablename__ = "arming"

    id: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    disarmed: Mapped[bool]
    by: Mapped[str] = mapped_column(sa.String(255))
    at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(sa.Text, default="")
