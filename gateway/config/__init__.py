"""Reads, checks and compares configuration files, and masks their secrets.

Start at `load`. types.py and the modules that it imports define the configuration keys.
"""
