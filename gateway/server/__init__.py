"""A process that serves calls: startup, workers, signals, draining, and the callers' routes."""
