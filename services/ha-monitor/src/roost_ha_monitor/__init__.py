"""Failure detection and alerts: which hosts live, known from their beats.

Every copy of the service listens to every beat; the one that holds the lease ``detector`` decides,
writes and publishes (`watch`). The decisions are pure: `detector` for a host's health, `hearing`
for whether silence means anything at all, `alerts` for what a person should know.

A host that is *down* has been silent; its desktops may still run. Confirming that by a second
path, fencing the host and following the incident come between ``suspected`` and a later
``host.fenced``, and get a folder ``fencing/`` of their own; nothing here may restart a desktop.
"""
