"""All of broker's queries, a module per noun."""
