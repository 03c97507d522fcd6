"""Stores that count limits: in memory, or in Redis through atomic Lua scripts.

Imports gateway.config, gateway.metrics and modules below them, but none that handle calls.
"""
