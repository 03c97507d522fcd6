"""The admin listener: health, readiness, metrics, keys, usage, targets, reload. Callers cannot reach it."""
