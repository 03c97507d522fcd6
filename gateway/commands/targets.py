"""`lockgate targets`: how each target of a running gateway fares, asked of its admin listener."""

from __future__ import annotations

from typing import Any

import click

ADMIN = "http://127.0.0.1:8081"


@click.command(short_help="Show how each target of a running gateway fares.")
@click.option(
    "--admin", "url", metavar="URL", default=ADMIN, show_default=True, envvar="LOCKGATE_ADMIN", show_envvar=True, help="Its admin listener."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def targets(url: str, as_json: bool) -> None:
    """Show which targets are live, which are left alone, why and until when.

    \b
    lockgate targets
    lockgate targets --admin http://10.0.0.5:8081 --json

    The admin key is taken from LOCKGATE_ADMIN_KEY.
    """
    import msgspec

    from gateway.commands.admin_client import ask

    found = ask("GET", url, "/admin/targets")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    rows: list[tuple[str, ...]] = [("TARGET", "STATE", "UNTIL", "WHY", "IN FLIGHT", "WAITING", "FAILED", "LATENCY")]
    rows += [_row(one) for one in found["targets"]]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    seconds = one["cooling_seconds"]
    cooling = [str(credential["index"] + 1) for credential in one["credentials"] if credential.get("state") == "cooling"]
    why = one["reason"] or (f"credential {', '.join(cooling)} cools" if cooling else "")
    latency = one["latency_ms"]
    return (
        one["target"],
        one["state"],
        "" if seconds is None else f"{seconds:.0f} s",
        why,
        str(one["in_flight"]),
        str(one["waiting"]),
        f"{one['failures_in_a_row']} {one['last_failure']}" if one["failures_in_a_row"] else "",
        "" if latency is None else f"{latency:.0f} ms",
    )
