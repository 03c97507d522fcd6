"""A process that serves: start-up, workers, signals, draining, and the callers' routes. Imports every package but `commands`."""
