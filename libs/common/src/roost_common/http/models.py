"""What the bodies and headers of requests are made of."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict


class ApiModel(BaseModel):
    """Base of request and answer bodies; a field nobody knows is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _no_id(name: str) -> str:
    try:
        UUID(name)
    except ValueError:
        return name
    raise ValueError("a name may not look like an id")


NoId = AfterValidator(_no_id)
"""For names: wherever an id is taken a name is taken too, so no name may be a UUID."""

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]
