"""The kernel, unpacked once here instead of at each start of each guest.

Debian packs its kernel with xz, which takes 4 s to unpack when the processor is emulated: half of
the guest's start. The boot image is taken apart and put together again with the same kernel in
plain form; the disk image's own compression makes up for the size. Offsets are those of
Documentation/x86/boot.rst ("The Real-Mode Kernel Header") and of elf(5).
"""

import lzma
import struct
from dataclasses import dataclass
from pathlib import Path

from guest.tools import BuildError, run

START_SOURCE = Path(__file__).with_name("unpacked_start.S")
LOAD_ADDRESS = 0x100000  # where boot loaders put a kernel that is not relocatable
SECTOR = 512

SETUP_SECTORS = 0x1F1
SYSTEM_SIZE = 0x1F4  # u32, of the part after the setup, in paragraphs of 16 bytes
MAGIC = 0x202
RELOCATABLE = 0x234
LOAD_FLAGS_64 = 0x236
PAYLOAD = 0x248  # u32 offset after the setup, u32 length
INIT_SIZE = 0x260  # u32, memory from the load address on that an initramfs must stay out of

ELF_LOAD = 1


@dataclass(frozen=True)
class MemoryImage:
    """A kernel as it lies in memory: ``content`` from ``address`` on, more zeros up to ``end``."""

    address: int
    entry: int
    content: bytes
    end: int


def unpacked(boot_image: bytes, *, work: Path) -> bytes:
    """``boot_image`` with its kernel in plain form; unchanged when it is not packed with xz.

    The other formats in use (zstd, lz4) unpack quickly enough. The result starts from a BIOS
    boot loader only: the EFI stub is part of what is left out.
    """
    if boot_image[MAGIC : MAGIC + 4] != b"HdrS":
        raise BuildError("the kernel is no x86 boot image")
    setup_size = (boot_image[SETUP_SECTORS] + 1) * SECTOR
    offset, length = struct.unpack_from("<II", boot_image, PAYLOAD)
    packed = boot_image[setup_size + offset : setup_size + offset + length]
    if not packed.startswith(b"\xfd7zXZ\0"):
        return boot_image
    # The payload ends with its unpacked size, which is no part of the xz stream.
    image = _memory_image(lzma.LZMADecompressor().decompress(packed))
    system = _start(image, work) + image.content
    header = bytearray(boot_image[:setup_size])
    struct.pack_into("<I", header, SYSTEM_SIZE, -(-len(system) // 16))
    struct.pack_into("<B", header, RELOCATABLE, 0)
    struct.pack_into("<H", header, LOAD_FLAGS_64, 0)
    struct.pack_into("<I", header, INIT_SIZE, image.end - LOAD_ADDRESS)
    return bytes(header) + system + b"\0" * (-len(system) % 16)


def _memory_image(elf: bytes) -> MemoryImage:
    if elf[:5] != b"\x7fELF\x02":
        raise BuildError("the packed kernel is no 64-bit ELF file")
    entry, table = struct.unpack_from("<QQ", elf, 0x18)
    entry_size, entries = struct.unpack_from("<HH", elf, 0x36)
    segments = []
    for number in range(entries):
        kind, _, offset, _, address, in_file, in_memory = struct.unpack_from(
            "<IIQQQQQ", elf, table + number * entry_size
        )
        if kind == ELF_LOAD:
            segments.append((address, elf[offset : offset + in_file], address + in_memory))
    start = min(address for address, _, _ in segments)
    content = bytearray(max(address + len(data) for address, data, _ in segments) - start)
    for address, data, _ in segments:
        content[address - start : address - start + len(data)] = data
    end = max(end for _, _, end in segments)
    # The kernel's .bss lies at the end, and the kernel clears it itself.
    plain = bytes(content).rstrip(b"\0")
    return MemoryImage(start, entry, plain + b"\0" * (-len(plain) % 4), end)


def _start(image: MemoryImage, work: Path) -> bytes:
    """The code that takes over from the boot loader, assembled for this kernel."""
    compiled, linked = work / "unpacked_start.o", work / "unpacked_start.bin"
    symbols = {"image_size": len(image.content), "kernel": image.address, "entry": image.entry}
    definitions = [
        word for name, value in symbols.items() for word in ("--defsym", f"{name}={value:#x}")
    ]
    run("as", "--64", *definitions, "-o", str(compiled), str(START_SOURCE))
    place = ("--oformat", "binary", "-Ttext", f"{LOAD_ADDRESS:#x}")
    run("ld", *place, "-o", str(linked), str(compiled))
    return linked.read_bytes()
