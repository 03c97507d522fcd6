"""Dry runs: the plan for one request, and where calls for a model would go. No upstream is called, except to count tokens."""
