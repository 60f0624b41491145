"""The only module that knows aiosmtplib: a notice as a mail."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from roost_common import log
from roost_ha_monitor.notifications.notice import About, Notice, Undelivered
from roost_ha_monitor.notifications.targets import EmailTarget
from roost_ha_monitor.notifications.tls import trust

logger = log.get_logger(__name__)

TIMEOUT_S: Final = 15.0
"""For each step of the conversation; the whole of it has the courier's limit."""
_SAID_MAX: Final = 200


class Mail:
    """Sends mail. ``runbooks`` is where they can be read."""

    def __init__(self, runbooks: str) -> None:
        self._runbooks = runbooks

    async def send(self, target: EmailTarget, notice: Notice) -> None:
        """Raises `Undelivered`. A server that refuses some of the recipients has taken the mail."""
        password = target.password.get_secret_value() if target.password else None
        try:
            refused, _ = await aiosmtplib.send(
                render(target, notice, self._runbooks),
                sender=target.sender,
                recipients=target.recipients,
                hostname=target.host,
                port=target.port,
                username=target.username,
                password=password,
                use_tls=target.security == "tls",
                start_tls=target.security == "starttls",
                tls_context=None if target.security == "none" else trust(target.ca),
                # The library's own choice asks the resolver, and waits for it.
                local_hostname=socket.gethostname(),
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPException as error:
            raise _translated(error, password) from None
        except ssl.SSLError as error:
            raise Undelivered(f"the server is not trusted: {error.reason or 'TLS'}") from None
        except (OSError, ValueError) as error:
            # ValueError: what the library finds wrong with its arguments, before it connects.
            maybe = isinstance(error, OSError)
            why = f"the mail cannot be sent: {type(error).__name__}"
            raise Undelivered(why, maybe=maybe) from None
        if refused:
            logger.warning("notification.recipients-refused", refused=sorted(refused))


def render(target: EmailTarget, notice: Notice, runbooks: str) -> EmailMessage:
    """The mail: plain text, with ids that let mail programs join what belongs together."""
    message = EmailMessage(policy=SMTP)
    message["From"] = target.sender
    message["To"] = ", ".join(target.recipients)
    message["Subject"] = notice.subject
    message["Date"] = format_datetime(notice.at)
    domain = target.sender.rpartition("@")[2].strip("[]") or "roost"
    message["Message-ID"] = f"<{notice.id}@{domain}>"
    if notice.about in (About.CLEARED, About.REMINDER):
        first = replace(notice, about=About.RAISED, number=0)
        message["In-Reply-To"] = message["References"] = f"<{first.id}@{domain}>"
    # RFC 3834: no answers from people on holiday.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text(runbooks))
    return message


def _translated(error: aiosmtplib.SMTPException, password: str | None) -> Undelivered:
    match error:
        case aiosmtplib.SMTPAuthenticationError():
            return Undelivered(f"the server refuses the password ({error.code})")
        case aiosmtplib.SMTPRecipientsRefused():
            return Undelivered(f"the server refuses every recipient: {_codes(error)}")
        case aiosmtplib.SMTPResponseException():
            return Undelivered(f"the server says {error.code} {_said(error.message, password)}")
        case aiosmtplib.SMTPConnectError():
            return Undelivered("the server cannot be reached, or its certificate is not trusted")
        case aiosmtplib.SMTPNotSupported():
            return Undelivered(f"the server cannot: {_said(error.message, password)}")
        case _:
            return Undelivered("the server stopped answering", maybe=True)


def _codes(error: aiosmtplib.SMTPRecipientsRefused) -> str:
    return ", ".join(sorted({str(each.code) for each in error.recipients}))


def _said(text: str, password: str | None) -> str:
    line = " ".join(text.split())
    return (line.replace(password, "********") if password else line)[:_SAID_MAX]
