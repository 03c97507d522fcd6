"""Every metric and label used by a dashboard, a rule or the autoscaler is declared by the gateway."""

from __future__ import annotations

import re

import pytest
import yaml

from gateway.metrics.declarations import COUNTERS, GAUGES, HISTOGRAMS
from tests.deploy import tools
from tests.deploy.dashboards import labels_of, metrics_of, queries
from tests.support.each import each

RULES = [
    (rule.get("alert") or rule["record"], rule)
    for path in sorted((tools.DEPLOY / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
# Series that Prometheus itself creates.
PROMETHEUS_OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}, "scrape_samples_scraped": {"job", "instance"}}


def declared() -> dict[str, set[str]]:
    """Return every series name with its labels: counters as exposed, histograms by their three parts."""
    series = {f"{name}_total": set(labels) for name, (_, labels) in COUNTERS.items()}
    series |= {name: set(labels) for name, (_, labels, _) in GAUGES.items()}
    for name, view in HISTOGRAMS.items():
        labels = {label for label, _ in view.labels}
        series |= {f"{name}_{part}": labels | ({"le"} if part == "bucket" else set()) for part in ("bucket", "sum", "count")}
    return series | PROMETHEUS_OWN | {rule["record"]: set() for _, rule in RULES if "record" in rule}


DECLARED = declared()
QUERIES = [*queries(), *((name, rule["expr"]) for name, rule in RULES)]


@each(("where", "query"), [pytest.param(*case, id=f"{index}-{case[0]}") for index, case in enumerate(QUERIES)])
def test_query_uses_declared_metrics_and_labels(where: str, query: str) -> None:
    names = metrics_of(query.replace("ALERTS", "up"))
    assert names, f"{where}: {query}"
    assert names - DECLARED.keys() == set()
    for name, labels in labels_of(query).items():
        assert labels - DECLARED[name] - {"job", "instance"} == set(), name


@each(("where", "query"), [pytest.param(*case, id=f"{index}-{case[0]}") for index, case in enumerate(QUERIES)])
def test_query_groups_by_existing_labels(where: str, query: str) -> None:
    known = {"job", "instance", "alertname"}.union(*(DECLARED[name] for name in metrics_of(query.replace("ALERTS", "up"))))
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= known, where


def test_every_counter_and_gauge_is_on_a_dashboard() -> None:
    shown = {name for _, query in queries() for name in metrics_of(query.replace("ALERTS", "up"))}
    assert {f"{name}_total" for name in COUNTERS} - shown == {"lockgate_upstream_requests_total"}
    assert set(GAUGES) - shown == set()
