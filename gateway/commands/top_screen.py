"""A frame as tables for a terminal. Needs rich."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.commands.top_readings import Frame

MOST = 12
"""Rows of a table."""
_COLOURS = {"live": "green", "cooling": "red", "probing": "yellow"}


def frame(shown: Frame, url: str, seconds_left: dict[str, str]) -> RenderableType:
    """Everything; `seconds_left` says by target until when and why it cools."""
    parts: list[RenderableType] = [_head(shown, url), _models(shown), _targets(shown, seconds_left)]
    for table in (_keys(shown), _refusals(shown), _engines(shown)):
        if table.row_count:
            parts.append(table)
    return Group(*parts)


def _head(shown: Frame, url: str) -> Text:
    value = shown.value
    line = Text(f"lockgate {shown.label('lockgate_build_info', 'version')}", style="bold")
    line.append(f"  {url}  {value('lockgate_workers', 1):.0f} worker(s)", style="default")
    line.append(f"\n{shown.rate('lockgate_requests_total'):.1f} calls/s  ", style="bold")
    line.append(f"{value('lockgate_requests_in_flight'):.0f} in flight, {value('lockgate_streams_in_flight'):.0f} streams  ")
    line.append(f"{shown.rate('lockgate_tokens_total', kind='output'):.0f} tokens/s  ")
    line.append(f"loop {value('lockgate_event_loop_lag_seconds') * 1000:.1f} ms late  ")
    line.append(f"configuration {value('lockgate_config_generation', 1):.0f}")
    for name, text in (("lockgate_store_up", "store out of reach"), ("lockgate_config_last_reload_successful", "last reload failed")):
        if value(name, 1) == 0:
            line.append(f"  {text}", style="bold red")
    if value("lockgate_draining"):
        line.append("  draining", style="bold yellow")
    return line


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", no_wrap=True, overflow="ellipsis")
    return table


def _fill(table: Table, rows: list[tuple[Any, ...]]) -> Table:
    for row in rows[:MOST]:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    if len(rows) > MOST:
        table.add_row(f"... {len(rows) - MOST} more")
    return table


def _models(shown: Frame) -> Table:
    table = _table("models", "model", "calls/s", "calls", "errors", "first token p50", "p95", "whole p50", "p95", "tokens/s", "USD")
    rows = [
        (
            Text(one.name),
            f"{one.rate:.1f}",
            f"{one.requests:,.0f}",
            Text(f"{one.errors:.1%}", style="red" if one.errors > 0.05 else ""),
            *map(_time, one.first),
            *map(_time, one.whole),
            f"{one.tokens:.0f}",
            f"{one.cost:,.4f}",
        )
        for one in shown.model_rows()
    ]
    return _fill(table, rows)


def _targets(shown: Frame, seconds_left: dict[str, str]) -> Table:
    table = _table("targets", "target", "state", "in flight", "waiting", "attempts/s", "failed", "why")
    rows = [
        (
            Text(one.name),
            Text(one.state, style=_COLOURS.get(one.state, "")),
            f"{one.in_flight:.0f}",
            f"{one.waiting:.0f}",
            f"{one.rate:.1f}",
            f"{one.failed:,.0f}",
            Text(seconds_left.get(one.name, "")),
        )
        for one in shown.target_rows()
    ]
    return _fill(table, rows)


def _keys(shown: Frame) -> Table:
    table = _table("keys", "key", "calls/s", "calls", "tokens", "USD")
    return _fill(
        table,
        [(Text(one.name), f"{one.rate:.1f}", f"{one.requests:,.0f}", f"{one.tokens:,.0f}", f"{one.cost:,.4f}") for one in shown.key_rows()],
    )


def _refusals(shown: Frame) -> Table:
    table = _table("limits that refused", "limit of a", "on", "refused/s", "refused")
    return _fill(table, [(owner, kind, f"{rate:.1f}", f"{count:,.0f}") for owner, kind, count, rate in shown.refusals()])


def _engines(shown: Frame) -> Table:
    table = _table("local engine", "provider", "ready", "running", "waiting", "restarts")
    rows = [
        (
            Text(name),
            "yes" if shown.value("lockgate_engine_ready", provider=name) else Text("no", style="red"),
            f"{shown.value('lockgate_engine_running', provider=name):.0f}",
            f"{shown.value('lockgate_engine_waiting', provider=name):.0f}",
            f"{shown.total('lockgate_engine_restarts_total', provider=name):.0f}",
        )
        for name in shown.names("lockgate_engine_ready", "provider")
    ]
    return _fill(table, rows)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
