"""Building blocks of Grafana dashboards: panels with unit and description, laid out on the grid, as JSON dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promql import scoped

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """One panel: its queries (expression to legend), unit and description."""

    title: str
    unit: str
    text: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False
    steps: tuple[tuple[float, str], ...] = ()  # thresholds and their colours above green
    words: tuple[tuple[str, str], ...] = ()  # values and the words shown for them
    colors: tuple[tuple[str, str], ...] = ()  # values and the colours of their words, where a word has one


def stat(
    title: str, unit: str, text: str, query: str, steps: tuple[tuple[float, str], ...] = (), words: tuple[tuple[str, str], ...] = ()
) -> Panel:
    """Return a panel with a single number."""
    return Panel(title, unit, text, {query: ""}, "stat", 4, False, steps, words)


def strip(title: str, text: str, queries: dict[str, str], words: tuple[tuple[str, str], ...], colors: tuple[tuple[str, str], ...]) -> Panel:
    """Return a panel of the full width with one row per series, coloured by its state over time."""
    return Panel(title, "short", text, queries, "state-timeline", WIDTH, words=words, colors=colors)


def stacked(title: str, unit: str, text: str, queries: dict[str, str], width: int = 12) -> Panel:
    """Return a panel of stacked series."""
    return Panel(title, unit, text, queries, width=width, stacked=True)


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: its panels from left to right, and its variables as pairs of label name and metric."""

    uid: str
    title: str
    text: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the dashboard as Grafana imports it."""
        return {
            "uid": f"lockgate-{self.uid}",
            "title": f"Lockgate / {self.title}",
            "description": self.text,
            "tags": ["lockgate"],
            "timezone": "browser",
            "schemaVersion": 41,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "links": [
                {
                    "title": "Lockgate", "type": "dashboards", "tags": ["lockgate"], "asDropdown": True, "icon": "external link",
                    "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
                }
            ],
            "templating": {"list": [_source_variable(), *(_variable(*pair) for pair in (*_PLACES, *self.variables))]},
            "annotations": {"list": [_reloads()]},
            "panels": _placed(self.panels),
        }  # fmt: skip


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "skipUrlSync": False}


_PLACES = (("job", "lockgate_build_info"), ("instance", 'lockgate_build_info{job=~"$job"}'))
"""The variables of every dashboard. The other variables list only values of the chosen jobs and instances."""


def _variable(name: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric if name in ('job', 'instance') else scoped(metric)}, {name})"
    return {
        "name": name, "label": name.capitalize(), "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
        "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*", "hide": 0, "skipUrlSync": False,
        "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _reloads() -> dict[str, Any]:
    """Return the annotation that marks configuration reloads."""
    return {
        "name": "Reloads", "enable": True, "hide": False, "iconColor": "blue", "datasource": SOURCE,
        "expr": scoped("changes(lockgate_config_last_reload_timestamp_seconds[1m]) > 0"), "titleFormat": "configuration reload",
    }  # fmt: skip


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Place the panels from left to right, starting a new row when one does not fit."""
    placed: list[dict[str, Any]] = []
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        tall = 4 if panel.kind == "stat" else 8
        placed.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": tall}))
        x, height = x + panel.width, max(height, tall)
    return placed


def _panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "gridPos": position,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index), "datasource": SOURCE, "expr": scoped(query), "legendFormat": legend,
                "range": panel.kind != "stat", "instant": panel.kind == "stat",
            }
            for index, (query, legend) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }  # fmt: skip


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}, *({"color": color, "value": value} for value, color in panel.steps)]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    colors = dict(panel.colors)
    if panel.words:
        defaults["mappings"] = [
            {
                "type": "value",
                "options": {
                    value: {"text": word, "index": at, **({"color": colors[value]} if value in colors else {})}
                    for at, (value, word) in enumerate(panel.words)
                },
            }
        ]
    if panel.kind == "state-timeline":
        defaults["custom"] = {"lineWidth": 0, "fillOpacity": 80}
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": mode, "group": "A"},
        }
    return defaults


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
    },
    "state-timeline": {
        "showValue": "never", "rowHeight": 0.9, "mergeValues": True, "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
}  # fmt: skip
