"""Emulation of features that a provider lacks: stop strings, JSON mode, several choices, token probabilities."""
