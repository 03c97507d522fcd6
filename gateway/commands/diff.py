"""`lockgate diff`: what changes from one configuration to another, before it is put in place."""

from __future__ import annotations

import click


@click.command(short_help="Show what changes between two configurations.")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(old: str, new: str, as_json: bool) -> None:
    """Show what differs from OLD to NEW: providers, models, teams, keys and settings, and which of it needs a restart.

    Both files are checked as by `lockgate check`. The exit code is 0 when they mean the same, 1 when they differ, 2 when one
    cannot be used. Secrets are never printed: one that is another is said to be.

    \b
    lockgate diff config/gateway.yaml new.yaml
    lockgate diff --json old.yaml new.yaml
    """
    from gateway.config import load as config
    from gateway.config.diff import compare

    changes = compare(config.load(old), config.load(new))
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode({"changes": changes}), indent=2).decode())
    else:
        colours = {"added": "green", "removed": "red", "changed": "yellow"}
        for change in changes:
            click.echo(click.style(str(change), fg=colours[change.what]))
    click.get_current_context().exit(1 if changes else 0)
