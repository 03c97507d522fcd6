"""Limits and budgets of calls, and the errors of refused calls. Imports call, config, store, tokens and usage."""
