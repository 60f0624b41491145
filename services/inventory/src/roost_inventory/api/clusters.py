"""``/api/v1/clusters``: for administrators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field, ValidationError

from roost_common import log
from roost_common.contracts.desktop import Name
from roost_common.errors import Conflict, Invalid, NotFound
from roost_common.http import Admin, ApiModel, IdempotencyKey, Page, Paging, encode_cursor
from roost_common.idempotency import claim
from roost_common.outbox import Transaction
from roost_inventory.api.parts import Service
from roost_inventory.model import Cluster
from roost_inventory.outlook import look
from roost_inventory.repository import Clusters
from roost_inventory.scheduling import Action, Migrate, PowerOff, Scheduling

logger = log.get_logger(__name__)
router = APIRouter(prefix="/api/v1/clusters", tags=["clusters"])

Description = Annotated[str, Field(max_length=1024)]
Parameters = Annotated[
    dict[str, Any], Field(description="Fields of a cluster's ``scheduling``; what is absent stays")
]


class ClusterCreate(ApiModel):
    """A cluster to be made."""

    name: Name
    description: Description = ""
    scheduling: Scheduling = Scheduling()


class ClusterPatch(ApiModel):
    """A change of a cluster; what is absent stays."""

    name: Name | None = None
    description: Description | None = None
    scheduling: Parameters = {}


class DryRun(ApiModel):
    """Parameters to try; without any the cluster's own."""

    scheduling: Parameters = {}


class ClusterAnswer(ApiModel):
    """A cluster."""

    id: UUID
    name: str
    description: str
    scheduling: Scheduling
    hosts: list[str]
    created_at: datetime


class PlannedAction(ApiModel):
    """One thing that the policy would do now."""

    action: Literal["migrate", "power-off", "power-on"]
    desktop: str | None = Field(default=None, description="For migrate")
    from_host: str | None = Field(default=None, description="For migrate")
    host: str = Field(description="The one that is switched, or to which the desktop moves")
    reason: str

    @classmethod
    def of(cls, one: Action) -> PlannedAction:
        """An action of the plan."""
        if isinstance(one, Migrate):
            return cls(
                action="migrate",
                desktop=one.desktop,
                from_host=one.from_host,
                host=one.to_host,
                reason=one.reason,
            )
        kind: Literal["power-off", "power-on"] = (
            "power-off" if isinstance(one, PowerOff) else "power-on"
        )
        return cls(action=kind, host=one.host, reason=one.reason)


class DryRunAnswer(ApiModel):
    """What would be done now. Nothing was."""

    cluster: str
    scheduling: Scheduling
    actions: list[PlannedAction]
    notes: list[str] = Field(description="What keeps it from doing more")


@router.get("")
async def list_clusters(service: Service, caller: Admin, paging: Paging) -> Page[ClusterAnswer]:
    """Clusters by name."""
    after = paging.after[0] if paging.after else None
    async with service.unit_of_work() as transaction:
        found, total = await Clusters(transaction.session).page(limit=paging.limit + 1, after=after)
        page = found[: paging.limit]
        items = await _answers(transaction, page)
    more = encode_cursor(page[-1].name) if len(found) > paging.limit else None
    return Page(items=items, next=more, total=total)


@router.post("", status_code=201)
async def create_cluster(
    service: Service,
    caller: Admin,
    wanted: ClusterCreate,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> ClusterAnswer:
    """Make a cluster; hosts are given to it one by one."""
    now = service.unit_of_work.clock.now()
    cluster = Cluster.create(wanted.name, wanted.description, wanted.scheduling, now)
    async with service.unit_of_work() as transaction:
        clusters = Clusters(transaction.session)
        earlier = await claim(
            transaction,
            actor=str(caller.id),
            key=idempotency_key,
            request=wanted,
            resource_id=cluster.id,
            now=now,
        )
        if earlier is not None:
            made = await clusters.get(earlier)
            if made is None:
                raise NotFound("cluster.unknown", "That cluster is gone.")
            cluster = made
        elif not await clusters.add(cluster):
            raise _taken(wanted.name)
        else:
            logger.info("cluster.created", cluster=cluster.name, by=caller.name)
        response.headers["Location"] = f"/api/v1/clusters/{cluster.id}"
        return (await _answers(transaction, [cluster]))[0]


@router.get("/{key}")
async def get_cluster(service: Service, caller: Admin, key: str) -> ClusterAnswer:
    """One cluster, by id or name."""
    async with service.unit_of_work() as transaction:
        return (await _answers(transaction, [await found(transaction, key)]))[0]


@router.patch("/{key}")
async def change_cluster(
    service: Service, caller: Admin, key: str, patch: ClusterPatch
) -> ClusterAnswer:
    """Change a cluster; its policy goes by the new parameters from its next pass on."""
    async with service.unit_of_work() as transaction:
        cluster = await found(transaction, key, lock=True)
        cluster.scheduling = _amended(cluster.scheduling, patch.scheduling)
        if patch.description is not None:
            cluster.description = patch.description
        if patch.name is not None and patch.name != cluster.name:
            if await Clusters(transaction.session).find(patch.name) is not None:
                raise _taken(patch.name)
            cluster.rename(patch.name)
        logger.info(
            "cluster.changed",
            cluster=cluster.name,
            policy=cluster.scheduling.policy.value,
            by=caller.name,
        )
        return (await _answers(transaction, [cluster]))[0]


@router.delete("/{key}", status_code=204)
async def remove_cluster(service: Service, caller: Admin, key: str) -> Response:
    """Forget a cluster without hosts."""
    async with service.unit_of_work() as transaction:
        clusters = Clusters(transaction.session)
        cluster = await found(transaction, key, lock=True)
        hosts = (await clusters.hosts_of([cluster.id]))[cluster.id]
        cluster.require_removable(len(hosts))
        if not await clusters.remove(cluster):
            cluster.require_removable(1)
    logger.info("cluster.removed", cluster=cluster.name, by=caller.name)
    return Response(status_code=204)


@router.post("/{key}/dry-run")
async def dry_run(
    service: Service, caller: Admin, key: str, trial: DryRun | None = None
) -> DryRunAnswer:
    """What its policy would do now, with its parameters or with others. Nothing is done.

    A plan begins what may begin at once; what would follow depends on how that ends.
    """
    async with service.unit_of_work() as transaction:
        cluster = await found(transaction, key)
        scheduling = _amended(cluster.scheduling, trial.scheduling if trial else {})
        now = service.unit_of_work.clock.now()
        outlook = await look(transaction, service.settings.overcommit, now)
    decided = outlook.plans({cluster.id: scheduling})[cluster.id]
    return DryRunAnswer(
        cluster=cluster.name,
        scheduling=scheduling,
        actions=[PlannedAction.of(one) for one in decided.actions],
        notes=list(decided.notes),
    )


async def found(transaction: Transaction, key: str, *, lock: bool = False) -> Cluster:
    """Raises `NotFound` where there is none with this id or name."""
    cluster = await Clusters(transaction.session).find(key, lock=lock)
    if cluster is None:
        raise NotFound("cluster.unknown", "There is no cluster {cluster}.", cluster=key)
    return cluster


async def _answers(transaction: Transaction, clusters: Sequence[Cluster]) -> list[ClusterAnswer]:
    hosts = await Clusters(transaction.session).hosts_of([one.id for one in clusters])
    return [
        ClusterAnswer(
            id=one.id,
            name=one.name,
            description=one.description,
            scheduling=one.scheduling,
            hosts=hosts[one.id],
            created_at=one.created_at,
        )
        for one in clusters
    ]


def _amended(scheduling: Scheduling, given: dict[str, Any]) -> Scheduling:
    try:
        return Scheduling.model_validate(scheduling.model_dump() | given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, ("scheduling", *first["loc"])))
        raise Invalid("cluster.invalid", "{where}: {why}", where=where, why=first["msg"]) from error


def _taken(name: str) -> Conflict:
    return Conflict("cluster.name-taken", "There is a cluster {name}.", name=name)
