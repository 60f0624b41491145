"""The command ``roost``: a module per noun; what nouns have in common is registered from data."""
