"""Failure detection and alerts."""
