"""Storage domains, templates, overlays and jobs."""
