"""The lab: a small Roost site with real parts on one Linux machine."""
