"""`lockgate top`: live view of a running gateway in the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import admin_option

if TYPE_CHECKING:
    from gateway.commands.top_readings import Scrape

PIPE_WIDTH = 140
"""Width in columns if the output is not a terminal."""


@click.command(short_help="Show a live view of a running gateway.")
@admin_option
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between frames.",
)
@click.option("--once", is_flag=True, help="Print one frame, measured over the next interval, and exit.")
@click.option("--fleet", is_flag=True, help="Show the combined figures of all instances that share the store.")
def top(url: str, interval: float, once: bool, fleet: bool) -> None:
    """Show models, targets, keys, limits and the local engine of a running gateway.

    \b
    lockgate top
    lockgate top --once --interval 5 > frame.txt

    If the gateway requires an admin key, set LOCKGATE_ADMIN_KEY.
    """
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        from gateway.config.extras import install_command

        raise click.ClickException(f"the package rich is missing: {install_command('top')}") from None
    from gateway.commands.top_readings import Frame
    from gateway.commands.top_screen import screen

    path = "/metrics?scope=fleet" if fleet else "/metrics"
    before = _scrape(url, path)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
    if once:
        time.sleep(interval)
        now = _scrape(url, path)
        console.print(screen(Frame(before, now), url, _cooldowns(url)))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        now = before
        while True:
            live.update(screen(Frame(before, now), url, _cooldowns(url)), refresh=True)
            time.sleep(interval)
            before, now = now, _scrape(url, path)


def _scrape(url: str, path: str) -> Scrape:
    from gateway.commands.admin_client import request_bytes
    from gateway.commands.top_readings import parse

    try:
        return parse(request_bytes("GET", url, path).decode(), time.monotonic())
    except (ValueError, KeyError):
        raise click.ClickException(f"{url} is not the admin listener of a gateway: set --admin to the URL of one") from None


def _cooldowns(url: str) -> dict[str, str]:
    """Return the reason and remaining time of each cooldown by target.

    The result is empty if the gateway does not return cooldowns.
    """
    from gateway.commands.admin_client import request_json

    try:
        targets: list[dict[str, Any]] = request_json("GET", url, "/admin/targets")["targets"]
    except (click.ClickException, KeyError, TypeError):
        return {}
    return {target["target"]: _cooldown_text(target) for target in targets if target.get("reason")}


def _cooldown_text(target: dict[str, Any]) -> str:
    seconds = target.get("cooling_seconds")
    return f"{target['reason']}, {seconds:.0f} s left" if seconds else str(target["reason"])
