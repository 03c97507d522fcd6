"""Routing: resolves a model name to an ordered list of candidates."""
