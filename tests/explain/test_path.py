"""The destination of the calls of a passed path, as `lockgate route` shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands.check import check
from gateway.commands.route import route
from gateway.errors import BadRequest, NotFound
from gateway.explain.path import path_text, plan_path
from tests.passthrough.test_rules import YAML, rules
from tests.support.each import each


def test_a_plan_shows_the_address_the_credential_and_the_limits() -> None:
    plan = plan_path(rules(), "/v1/audio/speech/long/a?api_key=x&v=1")
    assert plan is not None
    assert plan["url"] == "https://api.openai.com/v1/audio/speech/long/a?v=1"
    assert (plan["provider"], plan["pattern"], plan["credential"]) == ("openai", "/v1/audio/speech/long/*", ["authorization"])
    assert (plan["removed"], plan["max_body"]) == (["api_key"], 1 << 20)
    text = path_text(plan)
    assert "by '/v1/audio/speech/long/*' of passthrough" in text
    assert "api_key from the query" in text
    assert "WebSocket   rejected" in text
    assert "WebSocket   passed" in path_text({**plan, "websocket": True})
    assert "sk-x" not in text


def test_paths_that_are_not_passed_have_no_plan() -> None:
    assert plan_path(rules(), "smart") is None
    assert plan_path(None, "smart") is None
    with pytest.raises(BadRequest):
        plan_path(rules(), "/v1/audio/../x")


@each(
    ("path", "advice"),
    [
        ("/v1/nothing", 'declare it: passthrough: { "/v1/nothing/*": PROVIDER }.'),
        ("/v1/nothing/x?key=secret", 'No pattern of passthrough covers /v1/nothing/x. To pass it'),
        ("/other/x", '"/other/*": { provider: PROVIDER, path: "/*" }'),
        ("/v1/chat/completions", "The gateway serves /v1/chat/completions itself: name the model instead of the path"),
        ("/v1/models/x", "serves /v1/models/x itself"),
        ("/", "No pattern can cover it."),
        ("/v1/../x", "No pattern of passthrough covers"),
    ],
)
def test_a_path_that_no_pattern_covers_is_an_error_that_says_how_to_declare_it(path: str, advice: str) -> None:
    for known in (rules(), None):
        with pytest.raises(NotFound) as caught:
            plan_path(known, path)
        assert advice in caught.value.message
        assert "secret" not in caught.value.message


def test_the_command_says_how_to_declare_a_path(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_bytes(YAML)
    result = CliRunner().invoke(route, ["/v1/nothing", "--config", str(file)], env={"K": "sk-x"})
    assert result.exit_code == 1
    assert 'passthrough: { "/v1/nothing/*": PROVIDER }' in result.output
    assert "model" not in result.output.lower()


def test_the_command_shows_the_plan_of_a_path(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_bytes(YAML)
    run = CliRunner(env={"K": "sk-x"})
    shown = run.invoke(route, ["/v1/batches", "-c", str(file)])
    assert (shown.exit_code, "https://api.openai.com/v1/batches" in shown.output) == (0, True), shown.output
    plan = json.loads(run.invoke(route, ["/v1/batches", "-c", str(file), "--json"]).output)
    assert plan["methods"] == ["GET", "POST"]
    refused = run.invoke(route, ["/v1/audio/%2e%2e", "-c", str(file)])
    assert (refused.exit_code, "segment" in refused.output) == (1, True)
    checked = run.invoke(check, [str(file)])
    assert "5 paths" in checked.output
