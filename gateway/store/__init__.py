"""Stores that count limits: in memory, or in Redis through atomic Lua scripts.

No module of this package imports gateway.call.
"""
