"""Emulation of features that a provider lacks, such as stop strings, JSON mode, several choices and token probabilities."""
