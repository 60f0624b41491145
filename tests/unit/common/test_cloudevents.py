"""An envelope goes through headers and comes back the same."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import ValidationError

from roost_common.cloudevents import from_headers, to_headers
from roost_common.contracts.base import Envelope

WHOLE = Envelope(
    id=uuid4(),
    type="host.up.v1",
    source="/roost/test",
    time=datetime(2026, 1, 5, tzinfo=UTC),
    subject="node-a",
    correlation_id="r-1",
    causation_id=uuid4(),
)
BARE = WHOLE.model_copy(update={"subject": "", "causation_id": None})


@pytest.mark.parametrize("envelope", [WHOLE, BARE])
def test_there_and_back(envelope: Envelope) -> None:
    assert from_headers(to_headers(envelope), None) == envelope


def test_a_foreign_publisher_need_not_know_our_own_headers() -> None:
    headers = {key: value for key, value in to_headers(BARE).items() if key[0] == "c"}
    assert from_headers(headers, None).correlation_id == str(BARE.id)


def test_what_is_no_cloud_event_is_refused() -> None:
    headers = to_headers(WHOLE)
    with pytest.raises(KeyError):
        from_headers({}, "host.up.v1")
    with pytest.raises(ValidationError):
        from_headers(headers | {"cloudEvents:time": "2026-01-05T00:00:00"}, None)
