"""A process that serves: start-up, workers, signals, draining, and the callers' routes."""
