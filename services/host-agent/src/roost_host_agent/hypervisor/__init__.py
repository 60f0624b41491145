"""The hypervisor under the agent: one Protocol, libvirt behind it, and a fake beside it."""
