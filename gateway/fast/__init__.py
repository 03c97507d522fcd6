"""Serves calls that need nothing special without a task: see `gateway.fast.lane`."""
