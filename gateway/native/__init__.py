"""Native calls: a provider that speaks the caller's own API gets the caller's request, and its response passes unchanged."""
