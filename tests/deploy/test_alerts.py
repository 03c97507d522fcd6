"""Recording rules and alerts: each alert has a runbook entry, a unit test that fires and one that does not."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools
from tests.support.each import each

RULES = sorted((tools.DEPLOY / "rules").glob("*.yml"))
UNIT_TESTS = sorted((tools.DEPLOY / "rules" / "tests").glob("*.yml"))
RUNBOOK = (tools.DEPLOY / "runbook.md").read_text()


def rules() -> list[dict[str, Any]]:
    """Return every rule."""
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@functools.cache
def all_unit_tests() -> list[dict[str, Any]]:
    """Return the unit tests of all alerts."""
    documents = [yaml.safe_load(path.read_text()) for path in UNIT_TESTS]
    return [case for document in documents for entry in document["tests"] for case in entry["alert_rule_test"]]


def unit_tests(name: str) -> list[dict[str, Any]]:
    """Return the unit tests of one alert."""
    return [case for case in all_unit_tests() if case["alertname"] == name]


def test_each_alert_has_one_runbook_entry() -> None:
    entries = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(entries) == sorted(ALERTS)


@each("name", ALERTS)
def test_alert_has_severity_summary_and_runbook_link(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert address == "{{ $externalLabels.docs }}/deploy/runbook.html"
    assert anchor == name.lower(), "a heading's anchor is its text in lower case"


def test_the_website_has_the_page_to_which_the_alerts_lead() -> None:
    website = (tools.ROOT / "docs" / "mkdocs.yml").read_text()
    assert "use_directory_urls: false" in website, "deploy/runbook.md becomes deploy/runbook.html"
    assert ": deploy/runbook.md" in website
    loaded = yaml.safe_load((tools.DEPLOY / "prometheus.yml").read_text())
    assert loaded["global"]["external_labels"]["docs"].startswith("http")


def test_alerts_of_dead_targets_fire_within_a_minute_by_their_intervals() -> None:
    scraping = yaml.safe_load((tools.DEPLOY / "prometheus.yml").read_text())["global"]["scrape_interval"]
    groups = yaml.safe_load((tools.DEPLOY / "rules" / "alerts.yml").read_text())["groups"]
    (group,) = (group for group in groups if group["name"] == "lockgate_targets_down")
    for rule in group["rules"]:
        windows = re.findall(r"\[(\w+)\]", rule["expr"])
        waits = [scraping, rule["for"], group["interval"], *set(windows)]
        assert sum(int(wait.removesuffix("s")) for wait in waits) <= 50, rule["alert"]


@each("name", ALERTS)
def test_runbook_entry_has_meaning_first_look_and_fix(name: str) -> None:
    entry = RUNBOOK.partition(f"### {name}\n")[2].partition("\n#")[0]
    for part in ("**Means** ", "**First look** ", "**Fix** "):
        assert len(entry.partition(part)[2].partition("\n**")[0]) > 30, part


@each("name", ALERTS)
def test_alert_has_a_firing_and_a_silent_unit_test(name: str) -> None:
    fires = [bool(case["exp_alerts"]) for case in unit_tests(name)]
    assert sorted(fires) == [False, True]


def test_rule_tests_use_the_rules_that_prometheus_loads() -> None:
    loaded = yaml.safe_load((tools.DEPLOY / "prometheus.yml").read_text())["rule_files"]
    assert loaded == ["rules/*.yml"]
    for path in UNIT_TESTS:
        named = {(path.parent / entry).resolve() for entry in yaml.safe_load(path.read_text())["rule_files"]}
        assert named == set(RULES)


@pytest.mark.prove
def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    promtool = tools.debian("promtool")
    done = tools.run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "admin-key").write_text("any")
    written = (tools.DEPLOY / "prometheus.yml").read_text()
    config = tmp_path / "prometheus.yml"
    config.write_text(written.replace("/secrets/prometheus/", f"{tmp_path}/").replace("rules/", f"{tools.DEPLOY}/rules/"))
    done = tools.run(promtool, "check", "config", "--lint=all", "--lint-fatal", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout


@pytest.mark.prove
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_promtool_unit_tests_pass(path: Path) -> None:
    done = tools.run(tools.debian("promtool"), "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
