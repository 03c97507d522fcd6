"""`lockgate top`: what a running gateway does, live in a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.commands.top_readings import Scrape

ADMIN = "http://127.0.0.1:8081"
PIPED = 140
"""Columns where there is no terminal to ask."""


@click.command(short_help="Watch a running gateway in the terminal.")
@click.option(
    "--admin", "url", metavar="URL", default=ADMIN, show_default=True, envvar="LOCKGATE_ADMIN", show_envvar=True, help="Its admin listener."
)
@click.option("--interval", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, metavar="SECONDS", help="Time between frames.")
@click.option("--once", is_flag=True, help="Print one frame, of the next interval, and end.")
@click.option("--fleet", is_flag=True, help="Show every instance that shares the store.")
def top(url: str, interval: float, once: bool, fleet: bool) -> None:
    """Watch models, targets, keys, limits and the local engine of a running gateway.

    \b
    lockgate top
    lockgate top --once --interval 5 > frame.txt

    The admin key is taken from LOCKGATE_ADMIN_KEY.
    """
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise click.ClickException('this view needs the package rich: pip install "lockgate[top]"') from None
    from gateway.commands.top_readings import Frame
    from gateway.commands.top_screen import frame

    path = "/metrics?scope=fleet" if fleet else "/metrics"
    before = _scrape(url, path)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED)
    if once:
        time.sleep(interval)
        now = _scrape(url, path)
        console.print(frame(Frame(before, now), url, _cooling(url)))
        return
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        now = before
        while True:
            live.update(frame(Frame(before, now), url, _cooling(url)), refresh=True)
            time.sleep(interval)
            before, now = now, _scrape(url, path)


def _scrape(url: str, path: str) -> Scrape:
    from gateway.commands.admin_client import fetch
    from gateway.commands.top_readings import parse

    try:
        return parse(fetch("GET", url, path).decode(), time.monotonic())
    except (ValueError, KeyError):
        raise click.ClickException(f"what answers at {url} is no gateway's admin listener") from None


def _cooling(url: str) -> dict[str, str]:
    """Why and for how long targets are left alone; nothing where the gateway does not say."""
    from gateway.commands.admin_client import ask

    try:
        found: list[dict[str, Any]] = ask("GET", url, "/admin/targets")["targets"]
    except (click.ClickException, KeyError, TypeError):
        return {}
    return {one["target"]: _why(one) for one in found if one.get("reason")}


def _why(one: dict[str, Any]) -> str:
    seconds = one.get("cooling_seconds")
    return f"{one['reason']}, {seconds:.0f} s left" if seconds else str(one["reason"])
