"""Hosts, desktops, placement and the reconcile loop."""
