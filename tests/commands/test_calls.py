"""`lockgate calls` as a list, from answers of GET /admin/calls."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.commands import calls as command
from gateway.commands.cli import run
from tests.commands.test_waterfall import CALL

REFUSED = {
    **CALL, "id": "req_2", "key": None, "target": None, "status": 429, "error": "rate_limit_exceeded", "attempts": [], "adjustments": [],
    "cost_usd": None,
}  # fmt: skip
FOUND = {"object": "list", "data": [CALL, REFUSED], "has_more": True, "total": {"calls": 1234, "cost_usd": 1.5, "unpriced": 1}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer requests with FOUND. Return the paths that were requested."""
    paths: list[str] = []

    def answer(method: str, url: str, path: str) -> Any:
        paths.append(path)
        return FOUND

    monkeypatch.setattr("gateway.commands.admin_client.request_json", answer)
    return paths


def test_each_call_is_one_line_and_the_totals_follow(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calls"]) == 0
    assert asked == ["/admin/calls"]
    head, first, second, _, total = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["TIME", "STATUS", "MS"]
    assert "2026-11-28T14:02:11  200     4,000" in first
    assert "2 attempts" in first
    assert "1 adjusted  req_1" in first
    assert second.split()[5:] == ["?", "-", "smart", "-", "rate_limit_exceeded", "req_2"]
    assert total == "1,234 calls (2 shown); 1.500000 USD, without 1 call whose price is not known"


def test_options_become_parameters(asked: list[str]) -> None:
    assert run(["calls", "--key", "a b", "--slow", "2s", "--since", "1d", "--adjusted", "--cost", "--status", "5xx", "--json"]) == 0
    path, _, query = asked[0].partition("?")
    assert (len(asked), path) == (1, "/admin/calls")
    assert sorted(query.split("&")) == ["adjusted=true", "key=a+b", "since=1d", "slow=2s", "sort=cost", "status=5xx"]


def test_an_id_shows_the_waterfall(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calls", "my/id"]) == 0
    assert asked == ["/admin/calls/my%2Fid"]
    assert "first byte to the caller" in capsys.readouterr().out


def test_an_id_and_options_are_wrong_usage(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calls", "req_1", "--key", "app"]) == 2
    assert asked == []
    assert "not both" in capsys.readouterr().err


def test_table_without_calls_has_its_heads_and_the_total() -> None:
    empty = {"data": [], "has_more": False, "total": {"calls": 0, "cost_usd": 0.0, "unpriced": 0}}
    assert command._table(empty).splitlines()[-1] == "0 calls; 0.000000 USD"


def test_arguments_may_have_bytes_that_are_not_utf_8(asked: list[str]) -> None:
    """The shell passes any bytes, but no call has a name with such bytes."""
    assert run(["calls", "--key", "a\udcff"]) == 0
    assert run(["calls", "\udcff"]) == 0
    assert asked == ["/admin/calls?key=a%FF", "/admin/calls/%FF"]
