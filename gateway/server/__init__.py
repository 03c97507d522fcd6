"""A process that serves calls: start-up, workers, signals, draining, and the callers' routes."""
