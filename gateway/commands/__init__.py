"""The `lockgate` command line: the commands and their common parts. `gateway.commands.cli` registers the commands.

A command imports heavy modules inside its function, so that `lockgate --help` starts quickly.
"""
