"""What imaging says of its templates."""

from __future__ import annotations

from roost_common.contracts.template import TemplateCreated
from roost_imaging.model import Template, TemplateVersion


def created(template: Template, version: TemplateVersion) -> TemplateCreated:
    """That this version is ready to be used."""
    return TemplateCreated(
        template_id=template.id,
        template_name=template.name,
        version=version.version,
        os=template.os,
        virtual_bytes=version.virtual_bytes,
        used_bytes=version.used_bytes,
    )
