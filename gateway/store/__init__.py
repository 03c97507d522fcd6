"""Stores that count limits: in memory, or in Redis through atomic Lua scripts.

The modules of this package do not depend on calls.
"""
