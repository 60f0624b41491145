"""Whether this machine runs guests in hardware. The host agent decides; the lab says so early."""

from __future__ import annotations

from pathlib import Path


def has_flags(cpuinfo: str) -> bool:
    """Whether the processor offers VT-x or AMD-V, by the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return bool({"vmx", "svm"} & set(value.split()))
    return False


def explain(wanted: str) -> str:
    """One line for a person: what guests will run on, and why."""
    if wanted != "auto":
        return f"guests run with the domain type {wanted!r}, as ROOST_LAB_VIRT_TYPE says"
    if not Path("/dev/kvm").exists():
        return "no /dev/kvm: guests run in software emulation, about ten times slower"
    if not has_flags(Path("/proc/cpuinfo").read_text()):
        # The device alone proves nothing: there are machines where firmware runs with it and no
        # ordinary kernel does.
        return "/dev/kvm without vmx or svm: guests run in software emulation"
    return "guests run in hardware (KVM)"
