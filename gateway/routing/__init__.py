"""Routing: a model name becomes an ordered list of candidates. Imports call, config, emulate, targets and tokens."""
