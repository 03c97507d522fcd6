"""Backends and their state: health, cooldowns, latency, concurrency. This package does not import gateway.call."""
