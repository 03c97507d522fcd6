"""Dry runs: the plan for one request, and the targets to which calls for a model would go.

No upstream is called, except for counts of tokens, token ids and the text of token ids.
"""
