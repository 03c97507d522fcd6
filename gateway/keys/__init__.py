"""Virtual keys: which callers may call which models, within which limits."""
