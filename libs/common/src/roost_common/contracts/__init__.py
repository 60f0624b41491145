"""Everything that crosses a process border: one frozen class per message, a module per noun.

A message class is imported by its publisher and by its consumers. Optional fields may be added
to one; any other change is a new version beside the old one.
"""
