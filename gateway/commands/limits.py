"""`lockgate limits`: show the usage of the limits of a running gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import admin_option, json_option
from gateway.commands.output import print_json, url_part


@click.command(short_help="Show the usage of the limits of a running gateway.")
@click.option(
    "--owner", metavar="OWNER", help="Only limits of this kind of owner (key, team, model, provider, target) or of one owner (key:app)."
)
@admin_option
@json_option
def limits(owner: str | None, url: str, as_json: bool) -> None:
    """Show each limit of keys, teams, models, providers and targets, with its usage and the time of its reset.

    \b
    lockgate limits
    lockgate limits --owner team:search --json

    If the gateway requires an admin key, set LOCKGATE_ADMIN_KEY.
    """
    from gateway.commands.admin_client import request_json

    query = f"?owner={url_part(owner)}" if owner is not None else ""
    response = request_json("GET", url, f"/admin/limits{query}")
    if as_json:
        print_json(response)
        return
    rows: list[tuple[str, ...]] = [("OWNER", "MODEL", "LIMIT", "USED", "RESERVED", "LEFT", "RESET")]
    rows += [_row(entry) for entry in response["data"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    is_money = entry["unit"] == "USD"
    kind = "USD" if is_money else "concurrent calls" if entry["unit"] == "calls" else entry["kind"].replace("_", " ")
    kind = kind.removesuffix("s") if entry["limit"] == 1 else kind
    window = {None: "", "total": " in total"}.get(entry["window"], f" per {entry['window']}")
    zone = f" ({entry['timezone']})" if entry["timezone"] not in (None, "UTC") else ""

    def amount(name: str) -> str:
        number = entry[name]
        return "-" if number is None else f"{number:,.9f}".rstrip("0").rstrip(".") if is_money else f"{number:,}"

    reset = entry["reset_seconds"]
    return (
        f"{entry['owner']} {entry['name']}",
        entry["model"] or "",
        f"{amount('limit')} {kind}{window}{zone}",
        amount("used"),
        amount("reserved"),
        amount("remaining"),
        "never" if entry["window"] == "total" else _duration(reset) if reset else "-",
    )


def _duration(seconds: float) -> str:
    """Return a duration as text with at most two units, such as `2 h 5 min`."""
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((at for at, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number or first == 3)
