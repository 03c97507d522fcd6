"""Plans as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.commands import cli as command
from gateway.explain.text import request_text, route_text
from tests.explain.test_request import CONFIG, REQUEST, SECRET


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a configuration and a request."""
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(base="http://127.0.0.1:1"))
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_table_shows_route_request_and_adjustments(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table"]) == 0
    text = capsys.readouterr().out
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "smart, lenient"
    assert [line for line in lines if line[:2] in ("1.", "2.", "3.")] == [
        "1. cerebras/llama-3.3-70b (cerebras)",
        "2. goodfire/x (goodfire)",
        "3. azure/deployment (azure)",
    ]
    assert "POST http://127.0.0.1:1/v1/chat/completions" in lines
    assert "authorization  ***" in text
    assert "max_completion_tokens  7" in text
    assert 'rename to "max_completion_tokens"' in text
    assert "top_k       drop" in text
    assert SECRET not in text
    assert "… (" in text, "long values are cut"
    assert max(map(len, lines)) <= 120


def test_conditions_of_fallbacks_are_part_of_the_plan(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "gateway.yaml").write_text(
        "providers: { up: { type: vllm, base_url: 'http://127.0.0.1:1/v1' } }\n"
        "models: { smart: { targets: [up/x], fallback_on: [content_filter] } }\n"
    )
    assert command.run(["explain", "request.json", "--config", "gateway.yaml"]) == 0
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    assert target["fallback_on"] == ["content_filter"]
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table"]) == 0
    assert "fallback   also on  content_filter" in capsys.readouterr().out


def test_table_of_a_strict_plan_shows_the_rejected_parameters(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table", "--strict"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("smart, strict\n")
    assert text.count("rejected with 400 unsupported_parameter for 'top_k'") == 3
    assert "POST" not in text


def test_table_of_an_error_is_that_error(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "request.json").write_text(json.dumps({**REQUEST, "model": "none"}))
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table"]) == 1
    assert capsys.readouterr().out.startswith(
        "rejected with 404 model_not_found for 'model': The model 'none' does not exist"
    )


def test_several_upstream_requests_are_shown_one_by_one() -> None:
    request = {"method": "POST", "url": "http://x/v1", "headers": {}, "bodies": [{"seed": 1}, {"seed": 2}]}
    targets = [{"target": "p/m", "type": "vllm", "adjustments": [], "request": request}]
    text = request_text({"model": "m-1", "route": "m-*", "strict": False, "targets": targets})
    assert text.splitlines() == [
        "m-1, by 'm-*', lenient",
        "",
        "1. p/m (vllm)",
        "   POST http://x/v1",
        "   body 1/2   seed  1",
        "   body 2/2   seed  2",
        "   adjusted   nothing",
    ]


def test_route_table_shows_targets_in_cooldown_and_the_share_of_each_order() -> None:
    cooling = {"target": "a/x", "state": "cooling", "reason": "429", "seconds": 12.4}
    probing = {"target": "a/y", "state": "probing", "reason": "timeout", "seconds": None}
    plan = {
        "model": "smart",
        "found": "by its name",
        "route": {"order": [cooling, probing]},
        "calls": 4,
        "orders": [{"targets": ["a/y", "a/x"], "calls": 3}, {"targets": ["a/x", "a/y"], "calls": 1}],
        "hedges": [],
        "mirrors": [{"target": "a/z", "share": 0.5, "calls": 3}],
    }
    lines = route_text(plan).splitlines()
    assert lines[:4] == [
        "smart  (found by its name)",
        "in this order, the next one on failure",
        "├── 1. a/x  COOLDOWN: 12 s left (429)",
        "└── 2. a/y  PROBING: one call at a time until it recovers",
    ]
    assert lines[5] == "4 simulated calls"
    assert lines[6].startswith("   75.0%  a/y, then a/x")
    assert lines[-1] == "mirrored: a/z gets a copy of 50% of 3 of the calls"
