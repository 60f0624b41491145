"""What an image is, from its own bytes. Pure; no tool's guess is trusted.

A guest that writes a qcow2 header into its raw disk, or a person who names a file wrongly, must
not decide how the file is read: the format is settled here, once, and given to ``qemu-img``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from roost_common.errors import Invalid

Read = Callable[[int, int], bytes]
"""Bytes of the image: ``read(offset, length)``; fewer at its end."""


class Format(StrEnum):
    """What can be imported; the names are QEMU's drivers."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"


_IMPORTED: Final = {format_.value for format_ in Format}
_EXTENSIONS: Final = {".qcow2": Format.QCOW2, ".raw": Format.RAW, ".vmdk": Format.VMDK}
"""``.img`` and everything else says nothing: distributions name qcow2 images so too."""

_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk-cowd"),
    (0, b"# Disk DescriptorFile", "vmdk-descriptor"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"QED\0", "qed"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0x101, b"ustar", "tar"),
)
"""Offset, bytes and name: from QEMU's block drivers and the formats' own documents."""


def detect(read: Read) -> str | None:
    """The format whose signature the content bears, or None: anything may be raw."""
    head = read(0, 512)
    if head[:4] == b"QFI\xfb" and head[4:8] == b"\0\0\0\x01":
        return "qcow"
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    return None


def settle(name: str, claimed: str | None, detected: str | None) -> Format:
    """The format to read an image with.

    What is claimed (or, without a claim, what the extension of ``name`` says) must be what the
    content is. Raises `Invalid`: ``image.format-unsupported``, ``image.format-mismatch``,
    ``image.encrypted``, ``image.format-unknown``.
    """
    if claimed is not None and claimed not in _IMPORTED:
        raise _unsupported(claimed)
    said = claimed or _EXTENSIONS.get(PurePath(name).suffix.lower())
    if detected == "vmdk-descriptor" and said in (None, Format.VMDK):
        raise Invalid(
            "image.vmdk-unsupported",
            "A VMDK descriptor that names other files is not read; a single-file VMDK is.",
        )
    if said is not None and (detected or Format.RAW.value) != said:
        raise Invalid(
            "image.format-mismatch",
            "The image is said to be {said}, and its content is {found}.",
            said=str(said),
            found=detected or "of no known format",
        )
    if detected == "luks":
        raise Invalid("image.encrypted", "Encrypted images cannot be imported.")
    if detected is None and said is None and PurePath(name).suffix.lower() not in ("", ".img"):
        raise Invalid(
            "image.format-unknown",
            "Neither content nor name say what {name} is; name its format if it is raw.",
            name=PurePath(name).name,
        )
    if detected is not None and detected not in _IMPORTED:
        raise _unsupported(detected)
    return Format(detected) if detected else Format.RAW


def _unsupported(name: str) -> Invalid:
    return Invalid(
        "image.format-unsupported",
        "Images of format {format} cannot be imported; qcow2, raw and VMDK can.",
        format=name[:32],
    )


def require_size(virtual_bytes: int, max_virtual_bytes: int) -> None:
    """Raises `Invalid` (``image.empty``, ``image.too-large``)."""
    if virtual_bytes <= 0:
        raise Invalid("image.empty", "The image has no content.")
    if virtual_bytes > max_virtual_bytes:
        raise Invalid(
            "image.too-large",
            "The virtual disk has {virtual_bytes} bytes; at most {max_virtual_bytes} are allowed.",
            virtual_bytes=virtual_bytes,
            max_virtual_bytes=max_virtual_bytes,
        )


def has_backing_file() -> Invalid:
    """The refusal of an image that reads from another one."""
    return Invalid(
        "image.has-backing-file", "The image reads from another file (backing file or parent)."
    )


def truncated() -> Invalid:
    """The refusal of an image whose end is missing."""
    return Invalid("image.truncated", "The file ends before the image does.")


def corrupt(reason: str) -> Invalid:
    """The refusal of an image that contradicts itself."""
    return Invalid("image.corrupt", "The image is damaged: {reason}.", reason=reason)
