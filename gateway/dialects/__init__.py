"""The APIs that callers use: checks of parameters, request headers and response formats. Imports providers, errors and streams.

`table.DIALECTS` lists all APIs with their paths.
"""
