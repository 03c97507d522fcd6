"""The APIs that callers use: request headers, checks of parameters, and response formats.

`table.DIALECTS` lists all APIs with their paths.
"""
