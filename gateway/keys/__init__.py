"""Virtual keys: who may call, for which models, within which limits. Imports config and store."""
