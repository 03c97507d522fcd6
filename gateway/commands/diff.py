"""`lockgate diff`: compare two configurations before a reload."""

from __future__ import annotations

import click

from gateway.commands.options import allow_absent_option, json_option
from gateway.commands.output import print_absent, print_json


@click.command(short_help="Show what changes between two configurations.")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@allow_absent_option
@json_option
def diff(old: str, new: str, allow_absent: bool, as_json: bool) -> None:
    """Show the changes from OLD to NEW, and which of them need a restart.

    Both files are checked as by `lockgate check`. The exit code is 0 if they are equivalent, 1 if they differ, 2 if one
    of them is invalid. Secrets are never printed; a changed secret is reported as changed.

    \b
    lockgate diff config/gateway.yaml new.yaml
    lockgate diff --json old.yaml new.yaml
    """
    from gateway.config import load as config
    from gateway.config.diff import compare
    from gateway.config.problem import Problems

    absent = [Problems(path) for path in (old, new)]
    changes = compare(*(config.load(each.file, absent=each if allow_absent else None) for each in absent))
    if as_json:
        print_json({"changes": changes})
    else:
        for each in absent:
            print_absent(each)
        colours = {"added": "green", "removed": "red", "changed": "yellow"}
        for change in changes:
            click.echo(click.style(str(change), fg=colours[change.what]))
    click.get_current_context().exit(1 if changes else 0)
