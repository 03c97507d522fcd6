"""Dry runs: the plan for one request, and the targets to which calls for a model would go.

No upstream is called, except to count tokens and to convert text to token ids or back.
"""
