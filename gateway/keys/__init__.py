"""Virtual keys: authentication of callers, the models that they may call, and their limits."""
