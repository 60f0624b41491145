"""Alerts are raised and cleared in the transaction that changes what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from roost_common.outbox import Transaction
from roost_ha_monitor.alerts import Key, Plan, Wanted
from roost_ha_monitor.notifications.announce import announce
from roost_ha_monitor.repository import Alerts


async def carry_out(transaction: Transaction, plan: Plan, now: datetime) -> None:
    """Raise and clear what ``plan`` says."""
    repository = Alerts(transaction.session)
    for wanted in plan.to_raise:
        raised = await repository.open(wanted, now)
        if raised is not None:
            await announce(transaction, raised.raised())
    for key in plan.to_clear:
        await clear(transaction, key, now)


async def clear(transaction: Transaction, key: Key, now: datetime) -> None:
    """It is over, if it ever was."""
    over = await Alerts(transaction.session).lock_open(key)
    if over is not None:
        await announce(transaction, over.clear(now, "It is over."))


async def keep(
    transaction: Transaction, alert: str, wanted: Mapping[str, Wanted], now: datetime
) -> None:
    """The alerts of this kind that should be open are those of ``wanted``, by object."""
    known = {
        about for kind, about in await Alerts(transaction.session).open_keys() if kind == alert
    }
    plan = Plan(
        to_raise=[each for about, each in wanted.items() if about not in known],
        to_clear=[(alert, about) for about in known if about not in wanted],
    )
    await carry_out(transaction, plan, now)


async def set_one(transaction: Transaction, key: Key, wanted: Wanted | None, now: datetime) -> None:
    """This one is open, or it is not."""
    if wanted is not None:
        await carry_out(transaction, Plan([wanted], []), now)
    else:
        await clear(transaction, key, now)
