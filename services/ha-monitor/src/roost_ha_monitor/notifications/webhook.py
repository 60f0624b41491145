"""A notice as a CloudEvent, posted."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Final

import httpx

from roost_ha_monitor.notifications.notice import Notice, Undelivered
from roost_ha_monitor.notifications.targets import WebhookTarget
from roost_ha_monitor.notifications.tls import trust

TIMEOUT_S: Final = 10.0
SIGNATURE: Final = "X-Roost-Signature"
"""``sha256=`` and the HMAC of the body as it was sent, in hex."""
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def signature(secret: str, body: bytes) -> str:
    """What stands in the header `SIGNATURE`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Webhook:
    """Posts CloudEvents in structured mode. Follows no redirect, reads no answer."""

    async def send(self, target: WebhookTarget, notice: Notice) -> None:
        """Raises `Undelivered` unless the answer is a 2xx."""
        body = json.dumps(notice.cloud_event(), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "User-Agent": "roost-ha-monitor",
        }
        if target.secret is not None:
            headers[SIGNATURE] = signature(target.secret.get_secret_value(), body)
        url = target.url.get_secret_value()
        context = trust(target.ca) if url.lower().startswith("https") else False
        try:
            async with (
                httpx.AsyncClient(
                    verify=context, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False
                ) as client,
                client.stream("POST", url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except _NOT_SENT:
            raise Undelivered("it cannot be reached, or its certificate is not trusted") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its text may show the address, which may hold a secret.
            why = f"no answer: {type(error).__name__}"
            raise Undelivered(why, maybe=True) from None
        if 300 <= status < 400:
            raise Undelivered(f"it answers {status}; redirects are not followed")
        if not 200 <= status < 300:
            raise Undelivered(f"it answers {status}")
