"""The `lockgate` command line, one file per command. Registered in gateway.__main__; imported from nowhere else.

A command imports heavy modules inside its function, so that `lockgate --help` starts quickly.
"""
