"""The agent of a KVM node: libvirt and SPICE."""
