"""Backends and their condition: health, cooldowns, latency, concurrency. Imports config and upstream; knows no call."""
