"""`lockgate limits` as a table, from answers of GET /admin/limits."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gateway.commands import limits as command
from gateway.commands.cli import run
from gateway.keys.limit_states import usage_json
from gateway.store.limit import Limit, LimitUsage
from tests.support.each import each

BERLIN = Limit("team:search", "spend", 5 * 10**9, "day", timezone="Europe/Berlin")
USAGES = [
    LimitUsage(Limit("key:app", "requests", 1200, "min"), 1100, None, 59.7),
    LimitUsage(Limit("key:app", "uncached_prompt_tokens", 10, "h", model="gpt-5*"), 0, None, 0.0),
    LimitUsage(Limit("key:app", "concurrent", 3), 2, None, 0.0),
    LimitUsage(BERLIN, 1_250_000_000, 10**7, 7384.0),
    LimitUsage(Limit("key:app", "spend", 200 * 10**9, "total"), 0, 0, math.inf),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer requests with USAGES. Return the paths that were requested."""
    paths: list[str] = []

    def answer(method: str, url: str, path: str) -> Any:
        paths.append(path)
        return json.loads(json.dumps({"object": "list", "data": [usage_json(usage) for usage in USAGES]}))

    monkeypatch.setattr("gateway.commands.admin_client.request_json", answer)
    return paths


def test_each_limit_is_one_line(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["limits"]) == 0
    assert asked == ["/admin/limits"]
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["OWNER", "MODEL", "LIMIT", "USED", "RESERVED", "LEFT", "RESET"],
        ["key app", "1,200 requests per min", "1,100", "-", "100", "1 min"],
        ["key app", "gpt-5*", "10 uncached prompt tokens per h", "0", "-", "10", "-"],
        ["key app", "3 concurrent calls", "2", "-", "1", "-"],
        ["team search", "5 USD per day (Europe/Berlin)", "1.25", "0.01", "3.75", "2 h 3 min"],
        ["key app", "200 USD in total", "0", "0", "200", "never"],
    ]


def test_limits_of_one_owner_are_requested(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["limits", "--owner", "team:a b", "--json"]) == 0
    assert asked == ["/admin/limits?owner=team%3Aa%20b"]
    assert len(json.loads(capsys.readouterr().out)["data"]) == len(USAGES)


@each(("seconds", "text"), [(0.4, "0 s"), (5, "5 s"), (60, "1 min"), (3600, "1 h"), (90_061, "1 d 1 h"), (86_405, "1 d")])
def test_times_have_at_most_two_units(seconds: float, text: str) -> None:
    assert command._duration(seconds) == text
