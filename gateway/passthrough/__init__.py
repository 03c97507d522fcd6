"""Passes the calls of declared paths to a provider.

Bodies stay the same in both directions, and each is sent on while it arrives. Exceptions are hooks, the rules for MCP
servers, and errors of providers, in which the credential and the secret headers of the provider are masked.
"""
