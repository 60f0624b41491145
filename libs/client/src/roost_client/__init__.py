"""Python client of Roost's HTTP API and the roost command."""
