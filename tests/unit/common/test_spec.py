"""A desktop's spec, changed in part."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from roost_common.contracts.desktop import EnsureDesktop
from roost_common.contracts.spec import DesktopSpec, DisplayPolicy, Link, TemplateRef


def test_only_what_is_given_changes() -> None:
    spec = DesktopSpec(vcpus=4, memory_mib=8192, monitors=2, display=DisplayPolicy(usb=False))
    patch = DesktopSpec.model_validate({"vcpus": 2, "display": {"link": "wan"}})
    changed = spec.amended_by(patch)
    assert (changed.vcpus, changed.memory_mib, changed.monitors) == (2, 8192, 2)
    assert changed.display == DisplayPolicy(usb=False, link=Link.WAN)
    assert spec.amended_by(DesktopSpec.model_validate({})) == spec


def test_a_template_version_fits_where_it_is_kept() -> None:
    largest = 2**31 - 1
    assert TemplateRef(id=uuid4(), name="demo", version=largest).version == largest
    for number in (0, largest + 1):
        with pytest.raises(ValidationError):
            TemplateRef(id=uuid4(), name="demo", version=number)


def test_what_a_newer_publisher_adds_is_ignored_and_what_a_person_adds_is_refused() -> None:
    spec = DesktopSpec().model_dump(mode="json")
    newer = {**spec, "new": 1, "display": {**spec["display"], "new": 1}}
    template = {"id": str(UUID(int=1)), "name": "t", "version": 1}
    for part, text in ((DesktopSpec, newer), (TemplateRef, {**template, "new": 1})):
        with pytest.raises(ValidationError):
            part.model_validate(text)
    body = {
        "desktop_id": str(UUID(int=2)),
        "desktop_name": "d",
        "generation": 1,
        "power": "on",
        "spec": newer,
        "template": {**template, "new": 1},
        "new": 1,
    }
    assert EnsureDesktop.read(json.dumps(body)).spec == DesktopSpec()
    assert DesktopSpec.recall(newer) == DesktopSpec()
