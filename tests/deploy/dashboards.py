"""The dashboards and their queries, with variables and intervals filled in as by Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy import tools

PAGES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((tools.DEPLOY / "grafana" / "dashboards").glob("*.json"))
}
INTERVAL = "20s"  # the minimum of $__rate_interval: four scrapes


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each panel with the name of its page."""
    for name, page in PAGES.items():
        for panel in page["panels"]:
            yield name, panel


def filled(query: str, page: dict[str, Any]) -> str:
    """Return a query as Grafana sends it with every variable set to All."""
    for variable in page["templating"]["list"]:
        query = query.replace(f"${variable['name']}", variable.get("allValue", ""))
    query = query.replace("$__rate_interval", INTERVAL)
    assert "$" not in query, query
    return query


def queries() -> list[tuple[str, str]]:
    """Return every query, including those of annotations, as pairs of `page: panel` and query."""
    result = [(f"{name}: {panel['title']}", filled(entry["expr"], PAGES[name])) for name, panel in panels() for entry in panel["targets"]]
    for name, page in PAGES.items():
        result += [(f"{name}: {entry['name']}", filled(entry["expr"], page)) for entry in page["annotations"]["list"]]
    return result


def metrics_of(query: str) -> set[str]:
    """Return the names of the metrics in a query."""
    bare = re.sub(r'"[^"]*"|\bby \([^)]*\)|\{[^}]*\}|\[[^\]]*\]', " ", query)
    words = set(re.findall(r"\b[a-z_:]+[a-z0-9_:]*\b(?!\s*\()", bare))
    return words - {"or", "and", "unless", "by", "without", "offset", "on", "bool", "le"}


def series_of(query: str) -> list[tuple[str, str]]:
    """Return each metric name in a query with its matchers, or with an empty string if it has none."""
    bare = re.sub(r"\b(?:by|on|ignoring) \([^)]*\)", " ", query)
    return re.findall(r"\b((?:lockgate|gen_ai)_\w+|up|scrape_samples_scraped|ALERTS)\b(?!=|\"|\()(?:\{([^}]*)\})?", bare)


def labels_of(query: str) -> dict[str, set[str]]:
    """Return the labels that a query matches, by metric."""
    result: dict[str, set[str]] = {}
    for name, inside in re.findall(r"\b([a-z_:]+)\{([^}]*)\}", query):
        result.setdefault(name, set()).update(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', inside))
    return result
