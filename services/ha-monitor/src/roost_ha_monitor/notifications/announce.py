"""The one way on which alerts begin and end: over the bus, and over every channel that wants it."""

from __future__ import annotations

from roost_common.contracts.alert import AlertCleared, AlertRaised
from roost_common.outbox import Transaction


async def announce(transaction: Transaction, *facts: AlertRaised | AlertCleared) -> None:
    """Say that these alerts began or ended, if and when the transaction commits.

    What an alert's transition returns (``alert.raised()``, ``alert.clear()``) is passed on here
    and never given to ``transaction.emit``, which tells the bus alone. Waits for no lock.
    """
    for fact in facts:
        transaction.emit(fact)
