"""Inventory's own metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DESKTOPS = Gauge("roost_inventory_desktops", "Desktops by state", ["state"])
HOSTS = Gauge("roost_inventory_hosts", "Hosts by state", ["state"])
PLACEMENTS = Counter(
    "roost_inventory_placements_total", "Answers of placement: placed, or the refusal", ["answer"]
)
LOST = Counter(
    "roost_inventory_lost_desktops_total", "Desktops taken off fenced hosts", ["verdict"]
)
MIGRATIONS = Counter("roost_inventory_migrations_total", "Migrations by their end", ["state"])
RECONCILED = Counter("roost_inventory_reconciled_total", "Desktops the loop has looked at")
BALANCED = Counter(
    "roost_inventory_policy_actions_total", "What clusters' policies ordered", ["action"]
)
