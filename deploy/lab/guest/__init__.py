"""The lab's guest: a small bootable Linux disk image, made from distribution packages."""
