"""Limits and budgets of calls, and the errors of refused calls."""
