"""Stores that count limits: in memory, or in Redis through atomic Lua scripts.

The modules of this package know limits and amounts, but no calls.
"""
