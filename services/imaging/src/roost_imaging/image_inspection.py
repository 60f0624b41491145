"""The cheap look at an image, made before an import is accepted and once more by its job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from roost_imaging import image_check, image_header, source_file
from roost_imaging.image_header import Header
from roost_imaging.lanes import Lanes
from roost_imaging.qemu_img import OpenImage, QemuImg
from roost_imaging.source_file import SourceFile


@dataclass(frozen=True)
class Inspected:
    """An open source that may be imported as far as its headers tell."""

    source: SourceFile
    header: Header
    virtual_bytes: int
    fingerprint: tuple[int, ...]

    @property
    def image(self) -> OpenImage:
        """For qemu-img."""
        return OpenImage(self.source.fd, self.header.format)


class Inspection:
    """Opens files of the import directory and judges them."""

    def __init__(
        self, qemu_img: QemuImg, lanes: Lanes, *, import_dir: Path, max_virtual_bytes: int
    ) -> None:
        self._qemu = qemu_img
        self._lanes = lanes
        self._import_dir = import_dir
        self._max = max_virtual_bytes

    @asynccontextmanager
    async def of(self, path: str, claimed: str | None) -> AsyncIterator[Inspected]:
        """The file, open for the block; raises `Invalid` with the reason to refuse it."""
        source, header = await self._lanes.imports.run(self._open, path, claimed)
        try:
            fingerprint = source.fingerprint
            info = await self._qemu.info(OpenImage(source.fd, header.format))
            image_check.judge(info, header, self._max)
            yield Inspected(source, header, info.virtual_bytes, fingerprint)
        finally:
            source.close()

    def _open(self, path: str, claimed: str | None) -> tuple[SourceFile, Header]:
        source = source_file.open_source(path, self._import_dir)
        try:
            header = image_header.judge(
                source.name, claimed, source.read, source.size, max_virtual_bytes=self._max
            )
        except BaseException:
            source.close()
            raise
        return source, header
