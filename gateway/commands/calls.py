"""`lockgate calls`: list past calls of a running gateway, or show where the time of one call went."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import admin_option, json_option
from gateway.commands.output import print_json, printable, url_part
from gateway.commands.waterfall import content_text, waterfall


@click.command(short_help="List past calls, or show where the time of one call went.")
@click.argument("id", required=False)
@click.option("--key", metavar="NAME", help="Only calls with this key.")
@click.option("--team", metavar="NAME", help="Only calls of this team.")
@click.option("--user", metavar="NAME", help="Only calls for this end user.")
@click.option("--model", metavar="NAME", help="Only calls that asked for this model.")
@click.option("--target", metavar="NAME", help="Only calls with an attempt at this target.")
@click.option("--status", metavar="STATUS", help="Only calls with this status, such as 429, or class, such as 5xx.")
@click.option("--slow", metavar="DURATION", help="Only calls that took at least this time, such as 2s.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only calls that ended after this time (2026-11-28T14:00) or in the latest period of this length (2h, 1d).",
)
@click.option("--until", metavar="TIME", help="Only calls that ended before this time, in the format of --since.")
@click.option("--adjusted", is_flag=True, help="Only calls whose request was adjusted.")
@click.option("--cost", is_flag=True, help="The most expensive calls first.")
@click.option("--content", is_flag=True, help="With an id: show the captured request and response as well.")
@click.option("--limit", metavar="NUMBER", help="Maximum number of calls listed. Default: 50.")
@admin_option
@json_option
def calls(id: str | None, url: str, as_json: bool, content: bool, **options: Any) -> None:
    """List past calls, the latest first, or show one call with all its attempts.

    \b
    lockgate calls --slow 2s --since 1d
    lockgate calls --key search --status 429
    lockgate calls --team search --since 1d --cost
    lockgate calls req_7d8691f996790000000001
    lockgate calls req_7d8691f996790000000001 --content

    If the gateway requires an admin key, set LOCKGATE_ADMIN_KEY.
    """
    from urllib.parse import urlencode

    from gateway.commands.admin_client import request_json

    params = {name: value for name, value in options.items() if value not in (None, False)}
    if id is not None and params:
        raise click.UsageError("give the id of a call, or options that select calls, not both")
    if content and id is None:
        raise click.UsageError("--content needs the id of a call")
    if params.pop("cost", False):
        params["sort"] = "cost"
    if params.pop("adjusted", False):
        params["adjusted"] = "true"
    path = f"/{url_part(id)}" if id is not None else f"?{urlencode(params, errors='surrogateescape')}" if params else ""
    found = request_json("GET", url, f"/admin/calls{path}{'?content=true' if content else ''}")
    if as_json:
        print_json(found)
    elif id is not None:
        click.echo("\n\n".join(waterfall(call) + (content_text(call) if content else "") for call in found["data"]))
    else:
        click.echo(_table(found))


def _table(found: dict[str, Any]) -> str:
    """Return the calls as text: one line per call, then the totals of all calls that match."""
    heads = ("TIME", "STATUS", "MS", "FIRST BYTE", "TOKENS", "USD", "KEY", "MODEL", "TARGET", "NOTE", "ID")
    rows = [heads, *map(_row, found["data"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = found["total"]
    shown = f" ({len(found['data']):,} shown)" if found["has_more"] else ""
    word = "call" if total["calls"] == 1 else "calls"
    summary = f"{total['calls']:,} {word}{shown}; {total['cost_usd']:,.6f} USD"
    if total["unpriced"]:
        what = "call whose price is" if total["unpriced"] == 1 else "calls whose prices are"
        summary += f", without {total['unpriced']:,} {what} not known"
    return "\n".join([*lines, "", summary])


def _row(call: dict[str, Any]) -> tuple[str, ...]:
    cells = (
        call["time"][:19],
        str(call["status"]),
        f"{call['ms']:,.0f}",
        f"{call['first_byte_ms']:,.0f}" if "first_byte_ms" in call else "-",
        f"{call['prompt_tokens']:,}+{call['output_tokens']:,}" if "prompt_tokens" in call else "-",
        f"{call['cost_usd']:.6f}" if call.get("cost_usd") is not None else "?" if "cost_usd" in call else "-",
        call["key"] or "-",
        call["model"] or "-",
        call["target"] or "-",
        _note(call),
        call["id"],
    )
    return tuple(map(printable, cells))


def _note(call: dict[str, Any]) -> str:
    """Return the unusual features of a call in a few words."""
    notes = [call["error"]] if call.get("error") else []
    if len(call.get("attempts", ())) > 1:
        notes.append(f"{len(call['attempts'])} attempts")
    if call.get("queue_ms", 0) >= 1:
        notes.append(f"queued {call['queue_ms']:,.0f} ms")
    if call.get("adjustments"):
        notes.append(f"{len(call['adjustments'])} adjusted")
    if call.get("aborted"):
        notes.append("caller disconnected")
    return ", ".join(notes) or "-"
