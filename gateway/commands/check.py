"""`lockgate check` and `lockgate schema`: find the mistakes in a configuration; print the JSON Schema."""

from __future__ import annotations

import click

from gateway.commands.options import allow_absent_option, json_option
from gateway.commands.output import print_absent, print_json


@click.command(short_help="Check a configuration and list every mistake.")
@click.argument("file", required=False, type=click.Path())
@allow_absent_option
@json_option
def check(file: str | None, allow_absent: bool, as_json: bool) -> None:
    """Check FILE and everything it refers to, without serving or calling any upstream.

    Each problem is printed as one line, FILE:LINE:COLUMN: PATH: MESSAGE. If there are any, the exit code is 2.
    A missing embedded engine and catalog prices that are more than 90 days old cause a warning on stderr.

    \b
    lockgate check
    lockgate check my.yaml --json
    lockgate check production.yaml --allow-absent
    """
    from datetime import UTC, datetime

    from msgspec.structs import asdict

    from gateway.config import load as config
    from gateway.config.catalog_file import old_prices
    from gateway.config.extras import missing_engine
    from gateway.config.problem import Problems

    path = file or config.find_config_path()
    absent = Problems(path)
    try:
        loaded = config.load(path, absent=absent if allow_absent else None)
    except config.ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "file": path, "problems": [asdict(problem) for problem in error.problems]})
        click.get_current_context().exit(2)
    counts = {"providers": len(loaded.providers), "models": len(loaded.models), "keys": len(loaded.keys)}
    if loaded.issuers:
        counts["issuers"] = len(loaded.issuers)
    if loaded.passthrough:
        counts["paths"] = len(loaded.passthrough)
    warnings = missing_engine(loaded) + old_prices(loaded, datetime.now(UTC).date())
    if as_json:
        found = {"absent": [asdict(one) for one in absent.in_order]} if allow_absent else {}
        print_json({"ok": True, "file": path, "problems": [], "warnings": warnings, **found, **counts})
    else:
        print_absent(absent)
        for warning in warnings:
            click.echo(f"{path}: {click.style('warning', fg='yellow')}: {warning}", err=True)
        summary = ", ".join(f"{count} {word if count != 1 else word[:-1]}" for word, count in counts.items())
        click.echo(f"{path}: {click.style('ok', fg='green')} ({summary})")


@click.command(short_help="Print the JSON Schema of the configuration.")
@click.option("--markdown", is_flag=True, help="Print the configuration reference as Markdown instead.")
def schema(markdown: bool) -> None:
    """Print the JSON Schema of the configuration, for editors and other validators.

    \b
    lockgate schema > schema.json
    lockgate schema --markdown > configuration.md
    """
    from gateway.config.reference import reference
    from gateway.config.schema import schema_text

    click.echo(reference() if markdown else schema_text(), nl=False)
