"""deploy/alertmanager.yml: its alerts exist, pages are sent at once, and amtool accepts it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools
from tests.deploy.alertmanager import CONFIG, configured
from tests.deploy.test_alerts import ALERTS, unit_tests
from tests.support.each import each

LOADED: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
WEBHOOK = "https://hooks.example.com/alerts"


def seconds(text: str) -> int:
    """Return a duration in seconds."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def matched(matchers: list[str]) -> set[str]:
    """Return the names of the alerts in matchers."""
    return {name for matcher in matchers for name in re.sub(r'^alertname=~?"|"$', "", matcher).split("|")}


def test_inhibit_rules_name_existing_alerts_and_tickets_never_hide_pages() -> None:
    for rule in LOADED["inhibit_rules"]:
        sources, targets = matched(rule["source_matchers"]), matched(rule["target_matchers"])
        assert (sources | targets) - ALERTS.keys() == set()
        assert not sources & targets
        assert {ALERTS[name]["labels"]["severity"] for name in sources} == {"page"}


def test_inhibit_rules_compare_labels_that_both_alerts_have() -> None:
    for rule in LOADED["inhibit_rules"]:
        for name in matched(rule["source_matchers"]) | matched(rule["target_matchers"]):
            (fired,) = [case["exp_alerts"] for case in unit_tests(name) if case["exp_alerts"]]
            assert set(rule["equal"]) <= fired[0]["exp_labels"].keys(), name


def test_pages_are_sent_within_seconds_and_before_tickets() -> None:
    route = LOADED["route"]
    (page,) = route["routes"]
    assert page["matchers"] == ['severity="page"']
    assert seconds(page["group_wait"]) <= 5
    assert seconds(page["repeat_interval"]) < seconds(route["repeat_interval"])


def test_prometheus_sends_alerts_to_the_alertmanager_of_the_stack() -> None:
    (manager,) = yaml.safe_load((tools.DEPLOY / "prometheus.yml").read_text())["alerting"]["alertmanagers"]
    assert manager == {"static_configs": [{"targets": ["alertmanager:9093"]}]}
    service = yaml.safe_load((tools.ROOT / "docker-compose.yml").read_text())["services"]["alertmanager"]
    assert "--web.listen-address=0.0.0.0:9093" in service["command"]


@pytest.mark.prove
@each("webhook", ["", WEBHOOK])
def test_amtool_accepts_the_configuration(webhook: str, tmp_path: Path) -> None:
    done = tools.run(tools.debian("amtool"), "check-config", configured(tmp_path, webhook))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prove
def test_amtool_routes_every_alert_to_the_operators(tmp_path: Path) -> None:
    config = configured(tmp_path, WEBHOOK)
    for severity in ("page", "ticket"):
        command = ["config", "routes", "test", f"--config.file={config}", "--verify.receivers=operators", f"severity={severity}"]
        done = tools.run(tools.debian("amtool"), *command)
        assert done.returncode == 0, done.stdout + done.stderr
