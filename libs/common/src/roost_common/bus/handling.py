"""The three ends of a handler, decided here alone.

Done; retryable: back-off and requeue, ended by the queue's delivery limit; anything else: dead
letter. An `Outage` is waited out with the message in hand, because the work itself did not fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from roost_common import log
from roost_common.contracts.base import Delivery
from roost_common.errors import Outage, RoostError

logger = log.get_logger(__name__)

Handler = Callable[[Delivery], Awaitable[None]]

RETRY_STEPS_S: Final = (0.2, 1.0, 3.0)
"""Back-off by delivery count; each delivery keeps one place of the prefetch meanwhile."""
OUTAGE_MAX_S: Final = 5.0
"""The longest pause between two tries while something that is needed is away."""


class Outcome(StrEnum):
    """What becomes of the message."""

    DONE = "done"
    RETRIED = "retried"
    DEAD = "dead"


async def handle(delivery: Delivery, handler: Handler, count: int) -> Outcome:
    """Let ``handler`` do it; ``count``: how often it was delivered before."""
    kind = delivery.envelope.type
    waited = 0.5
    while True:
        try:
            await handler(delivery)
        except Outage as error:
            logger.warning("message.waits", type=kind, code=error.code)
            await asyncio.sleep(waited)
            waited = min(waited * 2, OUTAGE_MAX_S)
        except RoostError as error:
            if not error.retryable:
                logger.exception("message.dead", type=kind, code=error.code)
                return Outcome.DEAD
            logger.info("message.retried", type=kind, code=error.code, deliveries=count + 1)
            await asyncio.sleep(RETRY_STEPS_S[min(count, len(RETRY_STEPS_S) - 1)])
            return Outcome.RETRIED
        except Exception:
            logger.exception("message.dead", type=kind)
            return Outcome.DEAD
        else:
            return Outcome.DONE
