"""`lockgate targets`: show the health of the targets of a running gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import admin_option, json_option
from gateway.commands.output import print_json


@click.command(short_help="Show the health of the targets of a running gateway.")
@admin_option
@json_option
def targets(url: str, as_json: bool) -> None:
    """Show the state of each target, with the reason and remaining time of its cooldown.

    \b
    lockgate targets
    lockgate targets --admin http://10.0.0.5:8081 --json

    If the gateway requires an admin key, set LOCKGATE_ADMIN_KEY.
    """
    from gateway.commands.admin_client import request_json

    response = request_json("GET", url, "/admin/targets")
    if as_json:
        print_json(response)
        return
    rows: list[tuple[str, ...]] = [("TARGET", "STATE", "UNTIL", "WHY", "IN FLIGHT", "WAITING", "FAILED", "LATENCY")]
    rows += [_row(target) for target in response["targets"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(target: dict[str, Any]) -> tuple[str, ...]:
    seconds = target["cooling_seconds"]
    credentials = target["credentials"]
    cooling = [str(one["index"] + 1) for one in credentials if one.get("state") == "cooling"]
    reason = target["reason"] or (f"credential {', '.join(cooling)} in cooldown" if cooling else "")
    latency = target["latency_ms"]
    return (
        target["target"],
        target["state"],
        "" if seconds is None else f"{seconds:.0f} s",
        reason,
        str(target["in_flight"]),
        str(target["waiting"]),
        f"{target['failures_in_a_row']} {target['last_failure']}" if target["failures_in_a_row"] else "",
        "" if latency is None else f"{latency:.0f} ms",
    )
