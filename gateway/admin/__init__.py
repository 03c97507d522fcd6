"""The admin listener: health, readiness, metrics, keys, usage, targets, reload. Callers use the other listener."""
