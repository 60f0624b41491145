"""The agent's own metrics. None has a desktop's name as a label: there would be too many."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DOMAINS = Gauge("roost_agent_domains", "Desktops on this node", ["state"])
CLIENTS = Gauge("roost_agent_spice_clients", "Connected SPICE clients")
LIBVIRT_UP = Gauge("roost_agent_libvirt_up", "1 while libvirtd answers")
ENSURES = Counter("roost_agent_ensures_total", "Commands handled", ["outcome"])
START_SECONDS = Histogram(
    "roost_agent_start_seconds",
    "Time to define and start a domain",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
)
DISPLAY_OPENS = Counter("roost_agent_display_opens_total", "Screens opened", ["outcome"])
GUEST_AGENT_FAILURES = Counter(
    "roost_agent_guest_silences_total", "Times a guest's agent did not answer"
)
REPORT_SECONDS = Histogram(
    "roost_agent_report_seconds",
    "Time to look at every domain",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5),
)
CPU_PERCENT = Histogram(
    "roost_agent_desktop_cpu_percent",
    "Processor use of desktops, one sample per desktop and report",
    buckets=(5, 25, 50, 75, 90, 100),
)
MEMORY_USED = Gauge("roost_agent_desktops_memory_mib", "Memory in use by all desktops")

LEASE_SECONDS = Gauge(
    "roost_agent_lease_seconds", "Seconds until this node's lease ends; -1 while it has none"
)
LEASE_HELD = Gauge(
    "roost_agent_lease_held", "1 while the lease goes on only because no other node has one either"
)
LEASES_ENDED = Counter("roost_agent_leases_ended_total", "Times this run's lease has ended")
GUARDED = Gauge("roost_agent_guarded", "1 while the guard watches the lease file")
PEERS_READABLE = Gauge("roost_agent_peers_readable", "1 while the other nodes' beat files are read")
STARTS_WAITING = Gauge("roost_agent_starts_waiting", "Desktops that wait for their turn to start")
MIGRATIONS = Counter("roost_agent_migrations_total", "Migrations from here", ["outcome"])
MIGRATION_SECONDS = Histogram(
    "roost_agent_migration_seconds",
    "Time from a migration's command to its end",
    buckets=(1, 2, 5, 10, 30, 60, 120, 300),
)
