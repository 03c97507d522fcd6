"""Tables of `lockgate top` for a terminal. Requires rich."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.commands.top_readings import Frame

MAX_TABLE_ROWS = 12
_COLOURS = {"live": "green", "cooling": "red", "probing": "yellow"}


def screen(frame: Frame, url: str, cooldowns: dict[str, str]) -> RenderableType:
    """Return the whole screen. `cooldowns` has the reason and remaining time of each cooldown, by target."""
    parts: list[RenderableType] = [_head(frame, url), _models(frame), _targets(frame, cooldowns)]
    for table in (_keys(frame), _refusals(frame), _engines(frame)):
        if table.row_count:
            parts.append(table)
    return Group(*parts)


def _head(frame: Frame, url: str) -> Text:
    value = frame.value
    line = Text(f"lockgate {frame.label('lockgate_build_info', 'version')}", style="bold")
    line.append(f"  {url}  {value('lockgate_workers', 1):.0f} worker(s)", style="default")
    line.append(f"\n{frame.rate('lockgate_requests_total'):.1f} calls/s  ", style="bold")
    line.append(
        f"{value('lockgate_requests_in_flight'):.0f} in flight, {value('lockgate_streams_in_flight'):.0f} streams  "
    )
    line.append(f"{frame.rate('lockgate_tokens_total', kind='output'):.0f} tokens/s  ")
    line.append(f"event loop lag {value('lockgate_event_loop_lag_seconds') * 1000:.1f} ms  ")
    line.append(f"configuration {value('lockgate_config_generation', 1):.0f}")
    for name, text in (
        ("lockgate_store_up", "store unavailable"),
        ("lockgate_config_last_reload_successful", "last reload failed"),
    ):
        if value(name, 1) == 0:
            line.append(f"  {text}", style="bold red")
    if value("lockgate_draining"):
        line.append("  draining", style="bold yellow")
    return line


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True, overflow="ellipsis")
    return table


def _fill(table: Table, rows: list[tuple[Any, ...]]) -> Table:
    for row in rows[:MAX_TABLE_ROWS]:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    if len(rows) > MAX_TABLE_ROWS:
        table.add_row(f"... {len(rows) - MAX_TABLE_ROWS} more")
    return table


def _models(frame: Frame) -> Table:
    table = _table(
        "models",
        "model",
        "calls/s",
        "calls",
        "errors",
        "first token p50",
        "p95",
        "duration p50",
        "p95",
        "tokens/s",
        "USD",
    )
    rows = [
        (
            Text(row.name),
            f"{row.rate:.1f}",
            f"{row.requests:,.0f}",
            Text(f"{row.errors:.1%}", style="red" if row.errors > 0.05 else ""),
            *map(_duration, row.time_to_first_token),
            *map(_duration, row.duration),
            f"{row.tokens:.0f}",
            f"{row.cost:,.4f}",
        )
        for row in frame.model_rows()
    ]
    return _fill(table, rows)


def _targets(frame: Frame, cooldowns: dict[str, str]) -> Table:
    table = _table("targets", "target", "state", "in flight", "waiting", "attempts/s", "failed", "reason")
    rows = [
        (
            Text(row.name),
            Text(row.state, style=_COLOURS.get(row.state, "")),
            f"{row.in_flight:.0f}",
            f"{row.waiting:.0f}",
            f"{row.rate:.1f}",
            f"{row.failed:,.0f}",
            Text(cooldowns.get(row.name, "")),
        )
        for row in frame.target_rows()
    ]
    return _fill(table, rows)


def _keys(frame: Frame) -> Table:
    table = _table("keys", "key", "calls/s", "calls", "tokens", "USD")
    return _fill(
        table,
        [
            (Text(row.name), f"{row.rate:.1f}", f"{row.requests:,.0f}", f"{row.tokens:,.0f}", f"{row.cost:,.4f}")
            for row in frame.key_rows()
        ],
    )


def _refusals(frame: Frame) -> Table:
    table = _table("limits that refused calls", "owner", "kind", "refused/s", "refused")
    return _fill(
        table, [(owner, kind, f"{rate:.1f}", f"{count:,.0f}") for owner, kind, count, rate in frame.refusals()]
    )


def _engines(frame: Frame) -> Table:
    table = _table("local engine", "provider", "ready", "running", "waiting", "restarts")
    rows = [
        (
            Text(name),
            "yes" if frame.value("lockgate_engine_ready", provider=name) else Text("no", style="red"),
            f"{frame.value('lockgate_engine_running', provider=name):.0f}",
            f"{frame.value('lockgate_engine_waiting', provider=name):.0f}",
            f"{frame.total('lockgate_engine_restarts_total', provider=name):.0f}",
        )
        for name in frame.names("lockgate_engine_ready", "provider")
    ]
    return _fill(table, rows)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
