"""Passes the calls of declared paths to a provider.

Bodies stay the same in both directions, and each is sent on while it arrives. Hooks and the rules for MCP servers are exceptions.
"""
