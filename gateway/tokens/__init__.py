"""Token counts, estimates and truncation to a context window."""
