"""Failure detection, fencing, incidents and alerts.

Every copy of the service listens to every beat; the one that holds the lease ``detector`` acts.
The decisions are pure, and the rooms beside them carry them out:

=====================  ========================  ==============================================
decision               carried out by            about
=====================  ========================  ==============================================
`detector`, `hearing`  `watch`, `witness`        whether a host lives
`lease_policy`         `granting`                which nodes' own leases are to count
`lease_watch`          `granting`                when one is sure to be over
`incident`             `following`, `journal`    what to do about a host that is down
`fencing.plan`         `fencing.round`           one round through its fence devices
`desktop_fate`         `recovering`, `losses`    what became of its desktops
`alerts`               `alerting`                what a person should know
=====================  ========================  ==============================================

`powering` switches hosts on purpose. Nothing here starts a desktop: ``host.fenced`` says that
others may.
"""
