"""Envelopes as message headers: CloudEvents 1.0, AMQP protocol binding, binary content mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from roost_common.contracts.base import Envelope

PREFIX: Final = "cloudEvents:"
"""Of every CloudEvents attribute among the application properties (binding, section 3.1.3)."""
CORRELATION: Final = "roost-correlation-id"
CAUSATION: Final = "roost-causation-id"


def to_headers(envelope: Envelope) -> dict[str, Any]:
    """The application properties of a message with this envelope."""
    headers: dict[str, Any] = {
        f"{PREFIX}id": str(envelope.id),
        f"{PREFIX}type": envelope.type,
        f"{PREFIX}source": envelope.source,
        f"{PREFIX}specversion": "1.0",
        f"{PREFIX}time": envelope.time.isoformat(),
        CORRELATION: envelope.correlation_id,
    }
    if envelope.subject:
        headers[f"{PREFIX}subject"] = envelope.subject
    if envelope.causation_id is not None:
        headers[CAUSATION] = str(envelope.causation_id)
    return headers


def from_headers(headers: Mapping[str, Any], type_name: str | None) -> Envelope:
    """The envelope; ``type_name`` is the AMQP property, for where the header is missing.

    Raises KeyError for a missing attribute and pydantic's ValidationError for one that is wrong.
    """
    return Envelope.model_validate(
        {
            "id": headers[f"{PREFIX}id"],
            "type": headers.get(f"{PREFIX}type") or type_name,
            "source": headers[f"{PREFIX}source"],
            "time": headers[f"{PREFIX}time"],
            "subject": headers.get(f"{PREFIX}subject", ""),
            "correlation_id": headers.get(CORRELATION) or headers[f"{PREFIX}id"],
            "causation_id": headers.get(CAUSATION),
        }
    )
