"""Contracts and plumbing that every Roost service stands on."""
