"""The admin listener: health, readiness, metrics, keys, usage, targets, routes, configuration. Callers use the other listener."""
