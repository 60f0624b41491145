"""Deleting templates."""

from __future__ import annotations

from uuid import UUID

from roost_common import log
from roost_common.contracts.template import TemplateDeleted
from roost_common.errors import Conflict, Unavailable
from roost_common.outbox import UnitOfWork
from roost_imaging import template_files
from roost_imaging.lanes import Lanes
from roost_imaging.repository import Jobs, StorageDomains, Templates
from roost_imaging.states import TemplateState

logger = log.get_logger(__name__)


class TemplateKeeper:
    """Takes templates away that nobody uses."""

    def __init__(self, unit_of_work: UnitOfWork, lanes: Lanes) -> None:
        self._unit = unit_of_work
        self._lanes = lanes

    async def delete(self, key: str) -> bool:
        """Delete a template with all its versions; false when its storage is away.

        Then it is ``deleting`` and the reaper goes on. Raises `NotFound`, `Conflict`
        (``template.in-use``: desktops lie on it; ``template.busy``: an import goes on).

        The row lock makes a disk that is just being recorded wait, or waits for it: a disk is
        either counted here or finds the template no longer ready.
        """
        async with self._unit() as transaction:
            templates = Templates(transaction.session)
            template = await templates.get(key, lock=True)
            if await Jobs(transaction.session).active(template.id):
                raise Conflict(
                    "template.busy",
                    "An import into template {template} goes on; cancel its job first.",
                    template=template.name,
                )
            desktops = await templates.disk_count(template.id)
            if desktops:
                raise Conflict(
                    "template.in-use",
                    "{desktops} desktops lie on template {template}.",
                    template=template.name,
                    desktops=desktops,
                )
            template.mark_deleting()
            template_id = template.id
        try:
            await self.finish_deletion(template_id)
        except Unavailable as error:
            logger.warning("template.deletion-waits", template=key, code=error.code)
            return False
        return True

    async def finish_deletion(self, template_id: UUID) -> None:
        """Remove the files and then the rows. Raises `Unavailable` when the storage is away."""
        async with self._unit() as transaction:
            template = await Templates(transaction.session).find(template_id)
            if template is None or template.state is not TemplateState.DELETING:
                return
            domain = await StorageDomains(transaction.session).get(str(template.storage_id))
            layout = domain.layout
        await self._lanes.of(layout.storage_id).run(template_files.remove, layout, template_id)
        async with self._unit() as transaction:
            templates = Templates(transaction.session)
            template = await templates.find(template_id, lock=True)
            if template is None:
                return
            await templates.forget(template)
            transaction.emit(TemplateDeleted(template_id=template.id, template_name=template.name))
        logger.info("template.deleted", template=template.name)
