"""The disk: a FAT partition that syslinux boots from, and a partition that the guest writes to.

No mount and no loop device, so neither root nor a kernel's help is needed: mtools, syslinux and
mke2fs all work inside a file at an offset.
"""

from pathlib import Path

from guest.tools import BuildError, run

MIB = 1024 * 1024
FIRST_PARTITION = 1 * MIB
DATA_SIZE = 64 * MIB
DATA_LABEL = "roost-data"  # etc/init.d/rcS looks for it
MBR_CODE_SIZE = 440  # bytes before the disk signature and the partition table

MBR_CODE = (Path("/usr/lib/syslinux/mbr/mbr.bin"), Path("/usr/lib/SYSLINUX/mbr.bin"))

# Everything that a boot without hardware virtualisation waits for and this guest can spare.
KERNEL_COMMAND_LINE = (
    "quiet loglevel=3 console=tty0 console=ttyS0,115200 consoleblank=0 fbcon=font:TER16x32 "
    "tsc=reliable no_timer_check nokaslr noreplace-smp rodata=off mitigations=off lsm= "
    "cryptomgr.notests=1 random.trust_cpu=on audit=0 panic=5"
)

SYSLINUX_CFG = f"""\
DEFAULT roost
PROMPT 0
LABEL roost
  LINUX /vmlinuz
  INITRD /initramfs
  APPEND {KERNEL_COMMAND_LINE}
"""


def write(image: Path, *, kernel: bytes, initramfs: bytes, work: Path) -> None:
    """Write a qcow2 to ``image``, by way of a raw disk in ``work``.

    Not a compressed one: the boot loader reads in pieces smaller than a cluster, QEMU unpacks a
    whole cluster for each of them, and the start takes 2 s longer for half the size.
    """
    raw, config = work / "disk.raw", work / "syslinux.cfg"
    files = {"vmlinuz": kernel, "initramfs": initramfs, "syslinux.cfg": SYSLINUX_CFG.encode()}
    for name, content in files.items():
        (work / name).write_bytes(content)
    # The file system's own tables and the boot loader take well under two mebibytes.
    boot_size = _whole_mib(sum(map(len, files.values())) + 2 * MIB)
    data_start = FIRST_PARTITION + boot_size
    _partition(raw, boot_size=boot_size, disk_size=data_start + DATA_SIZE)
    _boot_partition(raw, boot_size, [work / name for name in files])
    _data_partition(raw, data_start)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    raw.unlink()
    config.unlink()


def _partition(raw: Path, *, boot_size: int, disk_size: int) -> None:
    raw.unlink(missing_ok=True)
    with raw.open("wb") as disk:
        disk.write(_mbr_code())
        disk.truncate(disk_size)
    table = (
        "label: dos\n"
        f"start={FIRST_PARTITION // 512}, size={boot_size // 512}, type=c, bootable\n"
        f"start={(FIRST_PARTITION + boot_size) // 512}, type=83\n"
    )
    run("sfdisk", "--quiet", str(raw), stdin=table)


def _mbr_code() -> bytes:
    for path in MBR_CODE:
        if path.exists():
            return path.read_bytes()[:MBR_CODE_SIZE]
    raise BuildError("syslinux's mbr.bin is missing (package syslinux-common)")


def _boot_partition(raw: Path, size: int, files: list[Path]) -> None:
    partition = f"{raw}@@{FIRST_PARTITION}"
    # mtools takes exception to sizes that are no whole cylinders, as partitions never are today.
    quiet = {"MTOOLS_SKIP_CHECK": "1"}
    # Clusters of 32 KiB: few steps through the allocation table for two large files.
    geometry = ("-c", "64", "-h", "64", "-s", "32", "-H", str(FIRST_PARTITION // 512))
    run("mformat", "-i", partition, "-T", str(size // 512), *geometry, "::", env=quiet)
    run("syslinux", "--install", "--offset", str(FIRST_PARTITION), str(raw), env=quiet)
    run("mcopy", "-i", partition, *map(str, files), "::/", env=quiet)


def _data_partition(raw: Path, start: int) -> None:
    # Tables written in full now: the kernel would otherwise write them at each first boot.
    eager = f"offset={start},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    blocks = f"{DATA_SIZE // 1024}k"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", DATA_LABEL, "-E", eager, str(raw), blocks)


def _whole_mib(size: int) -> int:
    return -(-size // MIB) * MIB
