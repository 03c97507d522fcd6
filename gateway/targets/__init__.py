"""Backends and their condition: health, cooldowns, latency, concurrency.

Imports config, errors and upstream, but not call.
"""
