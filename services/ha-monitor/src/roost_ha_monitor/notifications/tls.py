"""Whom a mail server or a webhook is believed to be."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=32)
def trust(ca: str | None) -> ssl.SSLContext:
    """Certificates checked against ``ca`` (PEM), or the machine's authorities; TLS 1.2 or newer."""
    context = ssl.create_default_context(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
