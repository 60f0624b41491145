"""The header of a qcow2 image, judged before any tool opens it. Pure.

Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct
from typing import Final

from roost_common.errors import Invalid
from roost_imaging import image_format
from roost_imaging.image_format import Read

_V2: Final = struct.Struct(">4sIQIIQIIQQIIQ")
"""Magic, version, backing file offset and size, cluster bits, virtual size, encryption method,
L1 entries and offset, refcount table offset and clusters, snapshots and their offset."""
_V3: Final = struct.Struct(">QQQII")
"""Incompatible, compatible and autoclear features, refcount order, header length."""
_EXTENSION: Final = struct.Struct(">II")
_DATA_FILE_NAME: Final = 0x44415441
_CORRUPT, _DATA_FILE = 1 << 1, 1 << 2
_KNOWN_FEATURES: Final = 0b11111
"""Dirty, corrupt, external data file, compression type, extended L2 entries."""
_MAX_EXTENSIONS: Final = 64


def judge(read: Read, size: int) -> int:
    """The virtual size in bytes of an image of ``size`` bytes that stands on its own.

    Raises `Invalid`: ``image.truncated``, ``image.corrupt``, ``image.has-backing-file``,
    ``image.has-data-file``, ``image.encrypted``, ``image.feature-unknown``.
    """
    head = read(0, _V2.size)
    if len(head) < _V2.size:
        raise image_format.truncated()
    (
        _magic,
        version,
        backing_offset,
        _backing_size,
        cluster_bits,
        virtual_bytes,
        encryption,
        l1_entries,
        l1_offset,
        refcount_offset,
        refcount_clusters,
        _snapshots,
        _snapshots_offset,
    ) = _V2.unpack(head)
    if version not in (2, 3):
        raise image_format.corrupt(f"qcow2 of version {version}")
    if not 9 <= cluster_bits <= 21:
        raise image_format.corrupt("an impossible cluster size")
    if backing_offset:
        raise image_format.has_backing_file()
    if encryption:
        raise Invalid("image.encrypted", "Encrypted images cannot be imported.")
    header_length = _V2.size
    if version == 3:
        header_length = _judge_version_3(read)
    _judge_extensions(read, header_length, 1 << cluster_bits)
    refcount_bytes = refcount_clusters << cluster_bits
    if l1_offset + 8 * l1_entries > size or refcount_offset + refcount_bytes > size:
        raise image_format.truncated()
    return int(virtual_bytes)


def _judge_version_3(read: Read) -> int:
    more = read(_V2.size, _V3.size)
    if len(more) < _V3.size:
        raise image_format.truncated()
    incompatible, _compatible, _autoclear, _order, header_length = _V3.unpack(more)
    if incompatible & _DATA_FILE:
        raise _has_data_file()
    if incompatible & _CORRUPT:
        raise image_format.corrupt("it is marked as corrupt")
    if incompatible & ~_KNOWN_FEATURES:
        raise Invalid("image.feature-unknown", "The image uses features that are not known here.")
    if header_length < _V2.size + _V3.size:
        raise image_format.corrupt("an impossible header length")
    return int(header_length)


def _judge_extensions(read: Read, start: int, cluster_bytes: int) -> None:
    """The name of an external data file is refused even where its feature bit is not set."""
    offset = start
    for _ in range(_MAX_EXTENSIONS):
        head = read(offset, _EXTENSION.size)
        if len(head) < _EXTENSION.size or offset >= cluster_bytes:
            return
        kind, length = _EXTENSION.unpack(head)
        if kind == 0:
            return
        if kind == _DATA_FILE_NAME:
            raise _has_data_file()
        offset += _EXTENSION.size + (length + 7) // 8 * 8
    raise image_format.corrupt("too many header extensions")


def _has_data_file() -> Invalid:
    return Invalid("image.has-data-file", "The image keeps its data in another file.")
