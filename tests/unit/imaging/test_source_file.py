"""Opening files of the import directory, whatever lies there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from roost_common.errors import Invalid, Unavailable
from roost_imaging import source_file


@pytest.fixture
def import_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "import"
    directory.mkdir()
    (directory / "a.raw").write_bytes(b"content")
    (directory / "sub").mkdir()
    (directory / "sub" / "b.raw").write_bytes(b"below")
    (tmp_path / "secret").write_bytes(b"secret")
    return directory


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.raw", ("a.raw",)),
        ("./a.raw", ("a.raw",)),
        ("sub//b.raw", ("sub", "b.raw")),
        ("/import/a.raw", ("a.raw",)),
        ("/import/sub/b.raw", ("sub", "b.raw")),
        ("..", "import.path-outside"),
        ("../import/a.raw", "import.path-outside"),
        ("sub/../a.raw", "import.path-outside"),
        ("/import/../etc/passwd", "import.path-outside"),
        ("/etc/passwd", "import.path-outside"),
        ("/import2/a.raw", "import.path-outside"),
        ("", "import.path-invalid"),
        ("a\nb", "import.path-invalid"),
        ("a\0b", "import.path-invalid"),
        ("x" * 5000, "import.path-invalid"),
        (".", "import.not-a-file"),
        ("/import", "import.not-a-file"),
    ],
)
def test_paths_lie_inside(path: str, parts: tuple[str, ...] | str) -> None:
    if isinstance(parts, tuple):
        assert source_file.parts_of(path, Path("/import")) == parts
    else:
        with pytest.raises(Invalid) as caught:
            source_file.parts_of(path, Path("/import"))
        assert caught.value.code == parts


def test_files_are_read(import_dir: Path) -> None:
    with source_file.opened("a.raw", import_dir) as source:
        assert (source.name, source.size) == ("a.raw", 7)
        assert source.read(3, 100) == b"tent"
    with source_file.opened(str(import_dir / "sub" / "b.raw"), import_dir) as source:
        assert source.read(0, 5) == b"below"


def test_a_descriptor_stays_with_its_file(import_dir: Path, tmp_path: Path) -> None:
    with source_file.opened("a.raw", import_dir) as source:
        (import_dir / "a.raw").unlink()
        (import_dir / "a.raw").symlink_to(tmp_path / "secret")
        assert source.read(0, 100) == b"content"


def test_no_swap_leads_outside(import_dir: Path, tmp_path: Path) -> None:
    """A component that turns into a symlink and back, as fast as it can, is never followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.raw").write_bytes(b"secret")
    link, real = import_dir / "sub", import_dir / "real"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            link.rename(real)
            link.symlink_to(outside)
            link.unlink()
            real.rename(link)

    swapping = threading.Thread(target=swap)
    swapping.start()
    opened, tries = 0, 0
    refused: set[str] = set()
    deadline = time.monotonic() + 60
    try:
        # A busy machine may let one of the two run alone for long.
        while tries < 3000 or (not (opened and refused) and time.monotonic() < deadline):
            tries += 1
            try:
                with source_file.opened("sub/b.raw", import_dir) as source:
                    assert source.read(0, 10) == b"below"
                    opened += 1
            except Invalid as error:
                refused.add(error.code)
    finally:
        stop.set()
        swapping.join()
    assert opened
    assert refused <= {"import.symlink", "import.not-found"}
    assert refused


def test_no_descriptor_is_left_open(import_dir: Path) -> None:
    (import_dir / "link").symlink_to("a.raw")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("a.raw", "sub/b.raw", "link", "sub", "nothing", "sub/nothing", "a.raw/x"):
        try:
            source_file.open_source(path, import_dir).close()
        except Invalid:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_change_is_noticed(import_dir: Path) -> None:
    with source_file.opened("a.raw", import_dir) as source:
        fingerprint = source.fingerprint
        source_file.require_unchanged(source, fingerprint)
        before = (import_dir / "a.raw").stat()
        (import_dir / "a.raw").write_bytes(b"CONTENT")
        os.utime(import_dir / "a.raw", ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(Invalid) as caught:
            source_file.require_unchanged(source, fingerprint)
        assert caught.value.code == "import.source-changed"


def test_a_missing_import_directory_is_an_outage_not_a_bad_path(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        source_file.open_source("a.raw", tmp_path / "nowhere")
    assert caught.value.code == "import.directory-unavailable"


def test_checksums(import_dir: Path) -> None:
    seen: list[int] = []

    def going(read: int) -> bool:
        seen.append(read)
        return True

    with source_file.opened("a.raw", import_dir) as source:
        assert source_file.sha256(source.fd, going) == hashlib.sha256(b"content").hexdigest()
        assert seen == [7]
        with pytest.raises(Unavailable) as caught:
            source_file.sha256(source.fd, lambda _: False)
        assert caught.value.code == "job.interrupted"
