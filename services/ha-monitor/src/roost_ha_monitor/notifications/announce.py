"""The one way on which alerts begin and end: over the bus, and over every channel that wants it."""

from __future__ import annotations

from dataclasses import replace

from roost_common.contracts.alert import AlertCleared, AlertRaised
from roost_common.outbox import Transaction
from roost_ha_monitor.notifications.model import Notification
from roost_ha_monitor.notifications.notice import About, Notice
from roost_ha_monitor.notifications.repository import Channels, Notifications
from roost_ha_monitor.notifications.wanting import wants


async def announce(transaction: Transaction, *facts: AlertRaised | AlertCleared) -> None:
    """Say that these alerts began or ended, if and when the transaction commits.

    What an alert's transition returns (``alert.raised()``, ``alert.clear()``) is passed on here
    and never given to ``transaction.emit``, which tells the bus alone. Waits for no lock.
    """
    for fact in facts:
        transaction.emit(fact)
    raised = [fact for fact in facts if isinstance(fact, AlertRaised)]
    cleared = [fact for fact in facts if isinstance(fact, AlertCleared)]
    if raised:
        await _tell_raised(transaction, raised)
    for fact in cleared:
        await _tell_cleared(transaction, fact)


async def _tell_raised(transaction: Transaction, facts: list[AlertRaised]) -> None:
    channels = await Channels(transaction.session).all()
    wanted = [
        (channel, fact)
        for fact in facts
        for channel in channels
        if wants(channel.alerts, channel.min_severity, fact.alert, fact.severity)
    ]
    if not wanted:
        return
    now = await Notifications(transaction.session).now()
    for channel, fact in wanted:
        notice = Notice(
            About.RAISED,
            0,
            fact.alert_id,
            fact.alert,
            fact.object,
            fact.severity,
            fact.message,
            since=fact.at,
            at=fact.at,
        )
        transaction.session.add(Notification.of(notice, channel.id, now))
    await transaction.session.flush()


async def _tell_cleared(transaction: Transaction, fact: AlertCleared) -> None:
    """To those who were told that it began, or still wait for that; not to anybody else."""
    notifications = Notifications(transaction.session)
    beginnings = await notifications.beginnings(fact.alert_id)
    if not beginnings:
        return
    now = await notifications.now()
    for began in beginnings:
        notice = replace(
            began.notice, about=About.CLEARED, number=0, message=fact.message, at=fact.at
        )
        transaction.session.add(Notification.of(notice, began.channel_id, now))
    await transaction.session.flush()
