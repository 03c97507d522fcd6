"""The `lockgate` command line: the commands and their common parts. gateway/__main__.py registers the commands.

A command imports heavy modules inside its function, so that `lockgate --help` starts quickly.
"""
