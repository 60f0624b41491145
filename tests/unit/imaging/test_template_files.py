"""What a job leaves in the making, and who removes it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from roost_imaging import template_files
from roost_imaging.layout import Layout

TEMPLATE = UUID(int=1)


def domain(root: Path) -> Layout:
    layout = Layout(uuid4(), root)
    layout.templates.mkdir()
    layout.marker.write_text(f"{layout.storage_id}\n")
    return layout


def test_a_leftovers_removal_takes_nothing_from_the_attempt_that_has_begun(tmp_path: Path) -> None:
    layout, job = domain(tmp_path), uuid4()
    first, second = (layout.version_part(TEMPLATE, 1, job, attempt) for attempt in (1, 2))
    final = layout.version_file(TEMPLATE, 1)
    template_files.prepare(layout, first, final, needed=0, reserve=0)
    [(listed, _)] = template_files.parts(layout)
    assert listed == first
    template_files.prepare(layout, second, final, needed=0, reserve=0)
    template_files.remove_part(layout, listed)
    assert [path for path, _ in template_files.parts(layout)] == [second]
    template_files.remove_part(layout, second)
    assert not layout.template_dir(TEMPLATE).exists()
