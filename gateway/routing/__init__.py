"""Routing: resolves a model name to an ordered list of candidates.

Imports call, config, emulate, targets and tokens.
"""
