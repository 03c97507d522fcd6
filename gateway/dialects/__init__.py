"""The APIs that callers use: checks of parameters, request headers and response formats.

`table.DIALECTS` lists all APIs with their paths.
"""
