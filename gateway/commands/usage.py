"""`lockgate usage`: show the usage and cost recorded by a running gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import admin_option
from gateway.commands.output import printable

TIMEOUT_S = 30.0
_SCOPES = {
    "process": "this process only",
    "workers": "the workers of this gateway only",
    "some_workers": "some workers of this gateway only; the others did not answer",
}
"""The processes of each source other than the store."""


@click.command(short_help="Show usage and cost.")
@click.option(
    "--by",
    type=click.Choice(["key", "team", "model", "target", "tag", "day"]),
    default="key",
    show_default=True,
    help="Column to group by.",
)
@click.option(
    "--from", "start", metavar="DATE", help="First day, UTC, such as 2026-11-01. Default: the first day of the month of --to."
)
@click.option("--to", "end", metavar="DATE", help="Last day, UTC. Default: today.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@admin_option
@click.option(
    "--admin-key",
    metavar="KEY",
    envvar="LOCKGATE_ADMIN_KEY",
    show_envvar=True,
    help="The admin key, if one is configured.",
)
def usage(by: str, start: str | None, end: str | None, form: str | None, url: str, admin_key: str | None) -> None:
    """Show requests, tokens and cost, as recorded by a running gateway.

    \b
    lockgate usage
    lockgate usage --by day --from 2026-11-01 --to 2026-11-30
    lockgate usage --by team --csv > teams.csv
    """
    from urllib.parse import urlencode

    from gateway.commands.admin_client import request_bytes

    params = {name: value for name, value in (("by", by), ("from", start), ("to", end)) if value is not None}
    query = urlencode({**params, "format": "csv" if form == "csv" else "json"}, errors="surrogateescape")
    text = request_bytes("GET", url, f"/admin/usage?{query}", key=admin_key, timeout_s=TIMEOUT_S).decode()
    if form is not None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    import msgspec

    click.echo(table(msgspec.json.decode(text)))


def table(usage: dict[str, Any]) -> str:
    """Return a usage response as text: one line per row, then the total."""
    by = usage["by"]
    heads = (by, "requests", "prompt", "cached", "output", "reasoning", "unpriced", "USD")
    lines = [_cells(row[by] or "-", row) for row in usage["rows"]]
    lines.append(_cells("total", usage["total"]))
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    text = [_line(heads, widths), *(_line(cells, widths) for cells in lines)]
    notes = [f"{usage['from']} to {usage['to']}, UTC"]
    if by == "tag":
        notes.append("a call with several tags counts for each of them")
    if usage["source"] in _SCOPES:
        notes.append(_SCOPES[usage["source"]])
    if usage["total"]["estimated"]:
        notes.append(f"{usage['total']['estimated']:,} {_calls(usage['total']['estimated'])} with estimated tokens")
    if usage["total"].get("unpriced"):
        notes.append(f"{usage['total']['unpriced']:,} {_calls(usage['total']['unpriced'])} without a known price, not in the cost")
    return "\n".join([*text, "", "; ".join(notes)])


def _calls(number: int) -> str:
    return "call" if number == 1 else "calls"


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    counts = (
        row.get(column, 0)
        for column in ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "unpriced")
    )
    return (printable(name), *(f"{count:,}" for count in counts), f"{row['cost_usd']:,.4f}")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers = cells
    aligned = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
    return "  ".join([name.ljust(widths[0]), *aligned]).rstrip()
