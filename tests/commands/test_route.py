"""`lockgate route`: the tree of a route, the distribution of simulated calls, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import cli as command

CONFIG = """
providers:
  up: { type: vllm, base_url: "http://127.0.0.1:1/v1", prices: { dear: { prompt: 9, output: 9 }, cheap: { prompt: 1, output: 1 } } }
  groq: { api_key: "${K:-abcdefgh}" }
models:
  one: up/x
  order: { targets: [one, { up/a: 3, up/b: 1 }], retries: 2 }
  spread: { targets: { up/a: 1, up/b: 1, up/c: 2 }, balance: session }
  saving: { targets: { up/dear: 9, up/cheap: 1 }, balance: cost }
  picky: [groq/m, up/x]
  "any-*": order
  safe: { targets: [up/a, up/b], hedge: p95, mirror: { target: up/c, share: 10% } }
  partly: { safe: 1, up/b: 3 }
  wary: { targets: [up/a, up/b], fallback_on: [content_filter, invalid_request] }
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return the path of a configuration file."""
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    return str(tmp_path / "gateway.yaml")


def route_json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """Run the command with --json and return its output."""
    assert command.run(["route", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_tree_has_every_step_and_draws_are_counted(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = route_json(capsys, "any-thing", "-c", config, "--n", "400")
    assert found["found"] == "by the pattern 'any-*', the longest that matches"
    order = found["route"]["route"]["order"]
    assert order[0] == {"model": "one", "route": {"target": "up/x", "retries": 2}}
    assert [(branch["share"], branch["target"]) for branch in order[1]["split"]] == [(0.75, "up/a"), (0.25, "up/b")]
    assert found["first"] == {"up/x": 400}
    drawn = {tuple(each["targets"]): each["calls"] for each in found["orders"]}
    assert drawn.keys() == {("up/x", "up/a"), ("up/x", "up/b")}
    assert sum(drawn.values()) == 400
    assert 220 < drawn["up/x", "up/a"] < 380  # 300 expected, standard deviation 8.7


def test_session_split_spreads_prompts_and_keeps_a_named_session_at_one_target(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert route_json(capsys, "spread", "-c", config)["first"].keys() == {"up/a", "up/b", "up/c"}
    for named in (["-H", "x-session-id: 4"], ["--user", "someone"]):
        found = route_json(capsys, "spread", "-c", config, *named)
        assert list(found["first"].values()) == [1000]
        assert found["route"]["how"].endswith("the header x-session-id" if named[0] == "-H" else "user")


def test_cost_split_shows_prices_and_takes_the_cheapest(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = route_json(capsys, "saving", "-c", config)
    dear, cheap = found["route"]["split"]
    assert dear["usd"] == pytest.approx(9 * cheap["usd"], rel=0.01)
    assert found["first"] == {"up/cheap": 1000}


def test_skipped_target_names_the_parameter_that_it_would_lose(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = tmp_path / "request.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}], "logit_bias": {"5": 1}}))
    found = route_json(capsys, "picky", "-c", config, "--file", str(body), "--require-parameters")
    assert "logit_bias" in found["route"]["order"][0]["skipped"]
    assert found["first"] == {"up/x": 1000}
    assert route_json(capsys, "picky", "-c", config, "--file", str(body))["first"] == {"groq/m": 1000}


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("{", "ends at byte 1"), ("[]", "must be a JSON object")])
def test_error_for_a_file_that_is_not_a_json_object_states_the_reason(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    body = tmp_path / "request.json"
    body.write_text(text)
    assert command.run(["route", "one", "-c", config, "--file", str(body)]) == 2
    assert message in capsys.readouterr().err


def test_text_output_is_a_tree_and_a_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["route", "order", "-c", config, "--n", "10"]) == 0
    text = capsys.readouterr().out
    assert "├── 1. model one" in text
    assert "└── 2. split, weighted: one of them for each call" in text
    assert "75.0%  up/a (up to 3 attempts)" in text
    assert "10 simulated calls" in text


def test_conditions_of_fallbacks_are_shown(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = {"target": "up/a", "fallback_on": ["content_filter", "invalid_request"]}
    assert route_json(capsys, "wary", "-c", config)["route"]["order"][0] == first
    assert command.run(["route", "wary", "-c", config]) == 0
    assert "up/a, next target also after content_filter and invalid_request" in capsys.readouterr().out


def test_hedges_and_mirrors_are_listed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = route_json(capsys, "safe", "-c", config)
    assert found["hedges"] == [{"after": "p95", "budget": 0.05, "calls": 1000}]
    assert found["mirrors"] == [{"target": "up/c", "share": 0.1, "calls": 1000}]
    found = route_json(capsys, "partly", "-c", config, "--n", "400")
    assert found["first"]["up/a"] == found["mirrors"][0]["calls"] == found["hedges"][0]["calls"]
    assert route_json(capsys, "order", "-c", config)["mirrors"] == []
    assert command.run(["route", "safe", "-c", config]) == 0
    text = capsys.readouterr().out
    assert (
        "hedged: the next target gets a second request after p95 without an answer, for at most 5% of the calls" in text
    )
    assert "mirrored: up/c gets a copy of 10% of the calls" in text


@pytest.mark.parametrize(("args", "code", "error"), [
    (["nono"], 1, "a caller would get 404 model_not_found for 'model'"),
    (["one", "--header", "novalue"], 2, "--header must have the form NAME:VALUE"),
    (["one", "--file", "/does/not/exist"], 2, "cannot read /does/not/exist: No such file"),
    (["one", "--n", "0"], 2, "0 is not in the range"),
])  # fmt: skip
def test_mistake_is_a_one_line_error(
    config: str, capsys: pytest.CaptureFixture[str], args: list[str], code: int, error: str
) -> None:
    assert command.run(["route", *args, "-c", config]) == code
    message = capsys.readouterr().err
    assert error in message
    assert message.count("\n") == 1
