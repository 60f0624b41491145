"""Formats, headers and names: decisions from bytes alone."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost_common.errors import Invalid
from roost_imaging import image_format, image_header, qcow2_header, vmdk_header
from roost_imaging.image_format import Format, Read

LIMIT = 1 << 40


def reader(data: bytes) -> Read:
    def read(offset: int, length: int) -> bytes:
        assert offset + length < 1 << 63, "no file can be read there"
        return data[offset : offset + length]

    return read


def qcow2(
    *,
    version: int = 3,
    backing: int = 0,
    cluster_bits: int = 16,
    size: int = 1 << 30,
    crypt: int = 0,
    l1: tuple[int, int] = (2, 196608),
    features: int = 0,
    header_length: int = 104,
    extensions: bytes = b"",
    length: int = 262144,
) -> bytes:
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", version, backing, 0, cluster_bits, size, crypt, l1[0], l1[1], 65536, 1, 0, 0,
    )  # fmt: skip
    more = struct.pack(">QQQII", features, 0, 0, 4, header_length) if version == 3 else b""
    return (head + more + extensions).ljust(length, b"\0")


def descriptor(
    kind: str = "monolithicSparse",
    extents: str = 'RW 2048 SPARSE "a.vmdk"',
    parent: str = "ffffffff",
    hint: str = "",
) -> bytes:
    return (
        f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID={parent}\ncreateType="{kind}"\n'
        f"{hint}\n# Extent description\n{extents}\n"
    ).encode()


def vmdk(
    text: bytes | None = None,
    *,
    capacity: int = 2048,
    at: int = 1,
    sectors: int = 20,
    directory: int = 26,
    length: int = 65536,
) -> bytes:
    head = struct.pack(
        "<4sIIQQQQIQQQB4sH",
        b"KDMV", 1, 3, capacity, 128, at, sectors, 512, 21, directory, 128, 0, b"\n \r\n", 0,
    )  # fmt: skip
    body = descriptor() if text is None else text
    return (head.ljust(512, b"\0") + body).ljust(length, b"\0")


def code(call: Callable[[], object]) -> str:
    with pytest.raises(Invalid) as caught:
        call()
    assert caught.value.detail
    return caught.value.code


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (b"QFI\xfb\0\0\0\x01", "qcow"),
        (b"KDMV\1\0\0\0", "vmdk"),
        (b"# Disk DescriptorFile\n", "vmdk-descriptor"),
        (b"LUKS\xba\xbe\0\1", "luks"),
        (b"vhdxfile", "vhdx"),
        (b"\0" * 0x40 + b"\x7f\x10\xda\xbe", "vdi"),
        (b"\0" * 0x101 + b"ustar", "tar"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xeb\x3c\x90mkfs", None),
        (b"", None),
    ],
)
def test_content_says_what_it_is(head: bytes, found: str | None) -> None:
    assert image_format.detect(reader(head)) == found


@pytest.mark.parametrize(
    ("name", "claimed", "detected", "settled"),
    [
        ("a.qcow2", None, "qcow2", Format.QCOW2),
        ("a.img", None, "qcow2", Format.QCOW2),
        ("a.img", None, None, Format.RAW),
        ("a", None, None, Format.RAW),
        ("a.raw", None, None, Format.RAW),
        ("a.RAW", None, None, Format.RAW),
        ("a.bin", "raw", None, Format.RAW),
        ("a.qcow2", "vmdk", "vmdk", Format.VMDK),
        ("a.raw", "qcow2", "qcow2", Format.QCOW2),
        ("a.raw", None, "qcow2", "image.format-mismatch"),
        ("a.qcow2", None, None, "image.format-mismatch"),
        ("a.qcow2", "raw", "qcow2", "image.format-mismatch"),
        ("a.img", "raw", "luks", "image.format-mismatch"),
        ("a.img", None, "luks", "image.encrypted"),
        ("a.img", None, "vdi", "image.format-unsupported"),
        ("a.img", "vdi", "vdi", "image.format-unsupported"),
        ("a.ova", None, "tar", "image.format-unsupported"),
        ("a.txt", None, None, "image.format-unknown"),
        ("a.vmdk", None, "vmdk-descriptor", "image.vmdk-unsupported"),
        ("a.vmdk", "raw", "vmdk-descriptor", "image.format-mismatch"),
    ],
)
def test_claim_name_and_content_must_agree(
    name: str, claimed: str | None, detected: str | None, settled: Format | str
) -> None:
    if isinstance(settled, Format):
        assert image_format.settle(name, claimed, detected) is settled
    else:
        assert code(lambda: image_format.settle(name, claimed, detected)) == settled


@pytest.mark.parametrize(
    ("image", "refusal"),
    [
        (qcow2(backing=4096), "image.has-backing-file"),
        (qcow2(version=2, backing=4096), "image.has-backing-file"),
        (qcow2(crypt=2), "image.encrypted"),
        (qcow2(features=1 << 2), "image.has-data-file"),
        (
            qcow2(extensions=struct.pack(">II", 0x44415441, 8) + b"/etc/pwd"),
            "image.has-data-file",
        ),
        (
            qcow2(
                extensions=struct.pack(">II5s3x", 0x6803F857, 5, b"names")
                + struct.pack(">II", 0x44415441, 8)
                + b"/etc/pwd"
            ),
            "image.has-data-file",
        ),
        (qcow2(features=1 << 1), "image.corrupt"),
        (qcow2(features=1 << 9), "image.feature-unknown"),
        (qcow2(version=4), "image.corrupt"),
        (qcow2(cluster_bits=30), "image.corrupt"),
        (qcow2(header_length=8), "image.corrupt"),
        (qcow2(l1=(1 << 20, 196608)), "image.truncated"),
        (qcow2()[:40], "image.truncated"),
        (qcow2()[:80], "image.truncated"),
        (qcow2(length=131000), "image.truncated"),
        (qcow2(extensions=struct.pack(">II", 7, 0) * 80), "image.corrupt"),
    ],
)
def test_qcow2_headers_that_are_refused(image: bytes, refusal: str) -> None:
    assert code(lambda: qcow2_header.judge(reader(image), len(image))) == refusal


@pytest.mark.parametrize("features", [0, 1, 1 << 3, 1 << 4])
def test_sound_qcow2_headers(features: int) -> None:
    for image in (qcow2(features=features), qcow2(version=2)):
        assert qcow2_header.judge(reader(image), len(image)) == 1 << 30


HINT = 'parentFileNameHint="/etc/shadow"'


@pytest.mark.parametrize(
    ("image", "refusal"),
    [
        (vmdk(capacity=0), "image.vmdk-unsupported"),
        (vmdk(at=0), "image.vmdk-unsupported"),
        (vmdk(sectors=1 << 40), "image.vmdk-unsupported"),
        (vmdk(descriptor("monolithicFlat")), "image.vmdk-unsupported"),
        (vmdk(descriptor("vmfsSparse")), "image.vmdk-unsupported"),
        (vmdk(descriptor(extents='RW 2048 FLAT "b" 0')), "image.vmdk-unsupported"),
        (vmdk(descriptor(extents='RW 2048 SPARSE "/b"')), "image.vmdk-unsupported"),
        (vmdk(descriptor(extents='RW 2048 SPARSE "..\\b"')), "image.vmdk-unsupported"),
        (
            vmdk(descriptor(extents='RW 1 SPARSE "a"\nRW 1 SPARSE "b"')),
            "image.vmdk-unsupported",
        ),
        (vmdk(descriptor(extents="")), "image.vmdk-unsupported"),
        (vmdk(descriptor(parent="12345678")), "image.has-backing-file"),
        (vmdk(descriptor(hint=HINT)), "image.has-backing-file"),
        (vmdk(descriptor(hint=HINT.upper())), "image.has-backing-file"),
        (vmdk(b"nothing"), "image.corrupt"),
        (vmdk(directory=1 << 20), "image.truncated"),
        (vmdk(at=1 << 20), "image.truncated"),
        (vmdk(at=1 << 55), "image.truncated"),
        (vmdk()[:60], "image.truncated"),
    ],
)
def test_vmdk_headers_that_are_refused(image: bytes, refusal: str) -> None:
    assert code(lambda: vmdk_header.judge(reader(image), len(image))) == refusal


def test_a_clean_descriptor_elsewhere_hides_no_parent() -> None:
    clean = descriptor().ljust(10240, b"\0")
    image = vmdk(descriptor(hint=HINT), at=32, length=32 * 512) + clean
    assert code(lambda: vmdk_header.judge(reader(image), len(image))) == "image.has-backing-file"


@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized"])
def test_sound_vmdk_headers(kind: str) -> None:
    image = vmdk(descriptor(kind), directory=(1 << 64) - 1)
    assert vmdk_header.judge(reader(image), len(image)) == 2048 * 512


def test_sizes_have_limits() -> None:
    def judged(data: bytes, size: int, limit: int = LIMIT) -> str:
        return code(
            lambda: image_header.judge("a.img", None, reader(data), size, max_virtual_bytes=limit)
        )

    assert judged(b"", 0) == "image.empty"
    assert judged(b"\0" * 512, LIMIT + 1) == "image.too-large"
    assert judged(qcow2(size=LIMIT + 1), 262144) == "image.too-large"
    assert judged(qcow2(size=0), 262144) == "image.empty"
    assert judged(vmdk(capacity=1 << 50), 65536) == "image.too-large"
    header = image_header.judge(
        "a.img", None, reader(qcow2(size=LIMIT)), 262144, max_virtual_bytes=LIMIT
    )
    assert (header.format, header.virtual_bytes) == (Format.QCOW2, LIMIT)


@given(st.binary(max_size=700), st.sampled_from(["QFI\xfb", "KDMV", ""]))
def test_any_bytes_are_judged_or_refused(data: bytes, magic: str) -> None:
    image = magic.encode("latin-1") + data
    try:
        header = image_header.judge(
            "a.img", None, reader(image), len(image), max_virtual_bytes=LIMIT
        )
    except Invalid as error:
        refused = error
    else:
        assert 0 < header.virtual_bytes <= LIMIT
        return
    assert refused.code.startswith("image.")
    assert refused.detail
