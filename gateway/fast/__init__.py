"""Calls that need nothing special, served without a task: see `gateway.fast.lane`."""
