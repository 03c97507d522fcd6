"""The `lockgate` command line, one file per command. gateway/__main__.py registers the commands.

A command imports heavy modules inside its function, so that `lockgate --help` starts quickly.
"""
