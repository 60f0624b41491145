"""Which adapter tells over which channel."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from roost_common import log
from roost_common.errors import RoostError
from roost_ha_monitor.notifications.mail import Mail
from roost_ha_monitor.notifications.model import Channel
from roost_ha_monitor.notifications.notice import Notice, Undelivered
from roost_ha_monitor.notifications.snmp import Snmp
from roost_ha_monitor.notifications.targets import EmailTarget, SnmpTarget, WebhookTarget
from roost_ha_monitor.notifications.webhook import Webhook
from roost_ha_monitor.sealed import Sealer

logger = log.get_logger(__name__)


class Sender(Protocol):
    """Tells one notice over one channel."""

    async def send(self, channel: Channel, notice: Notice) -> None:
        """Raises `Undelivered`, whatever goes wrong."""
        ...


class Senders:
    """All three."""

    def __init__(self, sealer: Sealer, runbooks: str) -> None:
        self._sealer = sealer
        self._mail = Mail(runbooks)
        self._webhook = Webhook()
        self._snmp = Snmp()

    async def send(self, channel: Channel, notice: Notice) -> None:
        """Raises `Undelivered`: neither a lost key nor a flaw in a library stops the detector."""
        try:
            await self._send(channel.id, channel.opened(self._sealer), notice)
        except Undelivered:
            raise
        except RoostError as error:
            raise Undelivered(error.detail) from error
        except Exception as error:
            # The type alone: the text of a foreign error may hold anything.
            logger.exception("notification.crashed", channel=channel.name)
            raise Undelivered(f"internal error: {type(error).__name__}", maybe=True) from error

    async def _send(
        self,
        channel_id: UUID,
        target: EmailTarget | WebhookTarget | SnmpTarget,
        notice: Notice,
    ) -> None:
        match target:
            case EmailTarget():
                await self._mail.send(target, notice)
            case WebhookTarget():
                await self._webhook.send(target, notice)
            case SnmpTarget():
                await self._snmp.send(target, notice, channel_id)
