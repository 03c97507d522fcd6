"""`lockgate usage`: what was used, as the running gateway's admin listener tells it."""

from __future__ import annotations

from typing import Any

import click

ADMIN = "http://127.0.0.1:8081"
PATIENCE = 30.0


@click.command(short_help="Show what was used, and what it cost.")
@click.option("--by", type=click.Choice(["key", "team", "model", "target", "day"]), default="key", show_default=True, help="Add up by it.")
@click.option("--from", "start", metavar="DATE", help="First day, UTC: 2026-11-01. Without it, the first of the month.")
@click.option("--to", "end", metavar="DATE", help="Last day, UTC. Without it, today.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--admin", metavar="URL", default=ADMIN, envvar="LOCKGATE_ADMIN", show_default=True, show_envvar=True, help="Its listener.")
@click.option("--admin-key", metavar="KEY", envvar="LOCKGATE_ADMIN_KEY", show_envvar=True, help="The admin key, where one is configured.")
def usage(by: str, start: str | None, end: str | None, form: str | None, admin: str, admin_key: str | None) -> None:
    """Show what callers used: requests, tokens and cost, from a running gateway.

    \b
    lockgate usage
    lockgate usage --by day --from 2026-11-01 --to 2026-11-30
    lockgate usage --by team --csv > teams.csv
    """
    params = {name: value for name, value in (("by", by), ("from", start), ("to", end)) if value is not None}
    answer = _ask(admin, {**params, "format": "csv" if form == "csv" else "json"}, admin_key)
    if form is not None:
        click.echo(answer, nl=not answer.endswith("\n"))
        return
    import msgspec

    click.echo(table(msgspec.json.decode(answer)))


def _ask(admin: str, params: dict[str, str], key: str | None) -> str:
    """The admin listener's answer; ClickException with its own words when it refuses."""
    import urllib.error
    import urllib.parse
    import urllib.request

    if not admin.startswith(("http://", "https://")):
        raise click.UsageError(f"--admin is a URL such as {ADMIN}")
    request = urllib.request.Request(f"{admin.rstrip('/')}/admin/usage?{urllib.parse.urlencode(params)}")
    if key:
        request.add_header("authorization", f"Bearer {key}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=PATIENCE) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            raise click.ClickException(_message(error.read(), error.code)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"no gateway answers at {admin} ({reason}); name its admin listener with --admin") from None


def _message(body: bytes, status: int) -> str:
    import msgspec

    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return f"the admin listener answered {status}"


def table(found: dict[str, Any]) -> str:
    """The answer for people: one line each, the total last."""
    by = found["by"]
    heads = (by, "requests", "prompt", "cached", "output", "reasoning", "USD")
    lines = [_cells(row[by] or "-", row) for row in found["rows"]]
    lines.append(_cells("total", found["total"]))
    widths = [max(len(cells[at]) for cells in (heads, *lines)) for at in range(len(heads))]
    shown = [_line(heads, widths), *(_line(cells, widths) for cells in lines)]
    notes = [f"{found['from']} to {found['to']}, UTC"]
    if found["source"] == "process":
        notes.append("of the one process that was asked")
    if found["total"]["estimated"]:
        notes.append(f"tokens of {found['total']['estimated']:,} calls are estimates")
    return "\n".join([*shown, "", "; ".join(notes)])


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    counts = (row[column] for column in ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"))
    return (_plain(name), *(f"{count:,}" for count in counts), f"{row['cost_usd']:,.4f}")


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = (cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join([first, *rest]).rstrip()
