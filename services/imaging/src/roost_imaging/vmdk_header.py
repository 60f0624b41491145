"""The header and the embedded descriptor of a single-file VMDK, judged before any tool opens it.

Pure. Source: VMware, "Virtual Disk Format 5.0"; QEMU's block/vmdk.c for what a reader follows:
a header without a capacity makes it follow the descriptor's extents, a parent hint its parent.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from roost_common.errors import Invalid
from roost_imaging import image_format
from roost_imaging.image_format import Read

SECTOR: Final = 512
_HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH")
"""Magic, version, flags, capacity, grain size, descriptor offset and size, entries of a grain
table, redundant and plain grain directory offset, overhead, unclean, line ends, compression."""
_MAX_DESCRIPTOR: Final = 1 << 20
_FIXED_DESCRIPTOR: Final = (SECTOR, 20 * SECTOR)
"""Where QEMU looks for a parent, wherever the header says that the descriptor is."""
_DIRECTORY_AT_END: Final = (1 << 64) - 1
_SINGLE_FILE: Final = ("monolithicSparse", "streamOptimized")
_PARENT = re.compile(rb"parentFileNameHint", re.IGNORECASE)
_PARENT_ID = re.compile(rb"^\s*parentCID\s*=\s*([0-9a-f]+)", re.IGNORECASE | re.MULTILINE)
_TYPE = re.compile(rb'^\s*createType\s*=\s*"([^"]*)"', re.IGNORECASE | re.MULTILINE)
_EXTENT = re.compile(rb'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?', re.MULTILINE)


def judge(read: Read, size: int) -> int:
    """The virtual size in bytes of a VMDK of ``size`` bytes that stands on its own.

    Raises `Invalid`: ``image.truncated``, ``image.corrupt``, ``image.has-backing-file``,
    ``image.vmdk-unsupported``.
    """
    head = read(0, _HEADER.size)
    if len(head) < _HEADER.size:
        raise image_format.truncated()
    fields = _HEADER.unpack(head)
    capacity, descriptor_offset, descriptor_size = fields[3], fields[5], fields[6]
    directory_offset = fields[9]
    if capacity == 0:
        raise _unsupported("its header has no capacity")
    if not descriptor_offset or not 0 < descriptor_size * SECTOR <= _MAX_DESCRIPTOR:
        raise _unsupported("it has no embedded descriptor")
    if directory_offset != _DIRECTORY_AT_END and directory_offset * SECTOR >= size:
        raise image_format.truncated()
    if descriptor_offset * SECTOR >= size:
        raise image_format.truncated()
    text = read(descriptor_offset * SECTOR, descriptor_size * SECTOR)
    if _PARENT.search(text + b"\n" + read(*_FIXED_DESCRIPTOR)):
        raise image_format.has_backing_file()
    _judge_descriptor(text.split(b"\0", 1)[0])
    return int(capacity) * SECTOR


def _judge_descriptor(text: bytes) -> None:
    parent = _PARENT_ID.search(text)
    if parent is not None and parent.group(1).lower() != b"ffffffff":
        raise image_format.has_backing_file()
    kind = _TYPE.search(text)
    if kind is None:
        raise image_format.corrupt("the descriptor names no type")
    if kind.group(1).decode("latin-1") not in _SINGLE_FILE:
        raise _unsupported("only monolithicSparse and streamOptimized are single files")
    extents = _EXTENT.findall(text)
    if len(extents) != 1:
        raise _unsupported("it has not exactly one extent")
    extent_kind, extent_name = extents[0]
    if extent_kind != b"SPARSE" or b"/" in extent_name or b"\\" in extent_name:
        raise _unsupported("its extent lies elsewhere")


def _unsupported(reason: str) -> Invalid:
    return Invalid(
        "image.vmdk-unsupported", "This kind of VMDK is not read: {reason}.", reason=reason
    )
