"""The judgement of an image by its header alone, whatever its format. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from roost_imaging import image_format, qcow2_header, vmdk_header
from roost_imaging.image_format import Format, Read


@dataclass(frozen=True)
class Header:
    """What the header of an acceptable image says."""

    format: Format
    virtual_bytes: int


def judge(
    name: str, claimed: str | None, read: Read, size: int, *, max_virtual_bytes: int
) -> Header:
    """The header of an image that may be imported; raises `Invalid` with the reason otherwise."""
    if size == 0:
        image_format.require_size(0, max_virtual_bytes)
    format_ = image_format.settle(name, claimed, image_format.detect(read))
    match format_:
        case Format.QCOW2:
            virtual_bytes = qcow2_header.judge(read, size)
        case Format.VMDK:
            virtual_bytes = vmdk_header.judge(read, size)
        case Format.RAW:
            virtual_bytes = size
    image_format.require_size(virtual_bytes, max_virtual_bytes)
    return Header(format_, virtual_bytes)
