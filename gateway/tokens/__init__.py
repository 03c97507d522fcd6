"""Token counts, estimates and truncation to a context window. Imports catalog and providers, but not call."""
