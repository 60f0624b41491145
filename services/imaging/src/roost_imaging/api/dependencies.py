"""What the endpoints need, from the application's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from roost_common.http import PageQuery
from roost_common.outbox import UnitOfWork
from roost_imaging.imports import Imports
from roost_imaging.jobs import JobDesk
from roost_imaging.repository import Listing
from roost_imaging.storage import StorageKeeper
from roost_imaging.templates import TemplateKeeper


@dataclass(frozen=True)
class UseCases:
    """The use cases behind the endpoints."""

    unit_of_work: UnitOfWork
    storage: StorageKeeper
    imports: Imports
    templates: TemplateKeeper
    jobs: JobDesk


async def use_cases(request: Request) -> UseCases:
    """Those of this application."""
    found: UseCases = request.app.state.use_cases
    return found


Imaging = Annotated[UseCases, Depends(use_cases)]


def cut(listing: Listing, paging: PageQuery) -> tuple[Sequence[Any], bool]:
    """The rows of the page asked for, and whether there are more."""
    return listing.rows[: paging.limit], len(listing.rows) > paging.limit
