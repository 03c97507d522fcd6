"""Passes the calls of declared paths to a provider: the bytes stay the same in both directions, and nothing is buffered whole."""
