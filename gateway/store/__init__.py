"""Stores of limits, responses and cached answers: in memory, or in Redis through atomic Lua scripts.

No module of this package imports gateway.call.
"""
