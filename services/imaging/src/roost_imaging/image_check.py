"""The judgement of what ``qemu-img info`` says; the second look after the header's. Pure."""

from __future__ import annotations

from roost_common.errors import Invalid
from roost_imaging import image_format
from roost_imaging.image_header import Header
from roost_imaging.qemu_img import ImageInfo


def judge(info: ImageInfo, header: Header, max_virtual_bytes: int) -> None:
    """Raises `Invalid` unless the image stands alone and is what its header says."""
    if info.backing_file is not None:
        raise image_format.has_backing_file()
    if info.data_file is not None:
        raise Invalid("image.has-data-file", "The image keeps its data in another file.")
    if info.encrypted:
        raise Invalid("image.encrypted", "Encrypted images cannot be imported.")
    if info.format != header.format.value:
        raise Invalid(
            "image.format-mismatch",
            "The image is said to be {said}, and its content is {found}.",
            said=header.format.value,
            found=info.format,
        )
    image_format.require_size(info.virtual_bytes, max_virtual_bytes)
