"""The API of a request body, as a hint for `lockgate explain --path`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.commands.explain import explain, hint_for
from gateway.dialects.table import DIALECTS, call_paths
from gateway.explain.path_hint import APIS, api_of, hint, unknown_path
from tests.support.each import each

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
YAML = 'providers: { up: { type: openai-compatible, base_url: "http://127.0.0.1:9/v1" } }\nmodels: { m: up/x }\n'


@each(
    ("body", "path"),
    [
        (CHAT, None),
        ({**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}], "documents": [], "thinking": {}, "k": 1}, None),
        ({**CHAT, "input": "x", "prompt": "x"}, None),
        ({**CHAT, "system": "x", "max_tokens": 5}, "/v1/messages"),
        ({**CHAT, "tools": [{"name": "f", "input_schema": {}}]}, "/v1/messages"),
        ({**CHAT, "p": 0.5}, "/v2/chat"),
        ({"model": "m", "input": "x"}, "/v1/responses"),
        ({"model": "m", "input": [{"role": "user", "content": "x"}], "instructions": "y"}, "/v1/responses"),
        ({"model": "m", "input": ["x"], "encoding_format": "float"}, "/v1/embeddings"),
        ({"model": "m", "texts": ["x"], "input_type": "search_query"}, "/v2/embed"),
        ({"model": "m", "prompt": "x", "echo": True}, "/v1/completions"),
        ({"model": "m", "query": "x", "documents": ["y"]}, "/v1/rerank"),
        ({"model": "m"}, None),
        ({}, None),
    ],
)
def test_the_fields_of_a_body_show_its_api(body: dict[str, Any], path: str | None) -> None:
    assert api_of(body) == path
    advice = hint(body, "/v1/chat/completions")
    assert (advice is None) is (path is None)
    assert path is None or f"--path {path}." in str(advice)
    assert hint(body, "/v1/responses") is None


def test_an_input_alone_may_be_of_two_apis() -> None:
    assert "/v1/responses or /v1/embeddings" in str(hint({"model": "m", "input": "x"}, "/v1/chat/completions"))
    assert "embeddings" not in str(hint({"model": "m", "input": "x", "store": False}, "/v1/chat/completions"))


def test_every_hint_names_a_path_that_the_command_accepts() -> None:
    assert {path for path, _, _ in APIS} <= call_paths(DIALECTS).keys()


def test_body_that_is_not_an_object_has_no_hint() -> None:
    for source in (b"[]", b"x", b"\xff", b"1", b"[" * 100_000):
        assert hint_for(source, "/v1/chat/completions") is None


def test_an_unknown_path_is_answered_with_the_nearest_one_and_all_apis() -> None:
    text = unknown_path("/v1/chat/completion", call_paths(DIALECTS))
    assert "Did you mean /v1/chat/completions?" in text
    assert "/v1/messages" in text
    assert "/v1/rerank" in text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration."""
    (tmp_path / "g.yaml").write_text(YAML)
    return tmp_path / "g.yaml"


def run(file: Path, body: dict[str, Any], *options: str) -> Any:
    """Run the command with a body."""
    return CliRunner().invoke(explain, ["-", "--config", str(file), *options], input=json.dumps(body))


def test_the_command_prints_the_hint_beside_the_plan(file: Path) -> None:
    body = {"model": "m", "input": "hi", "instructions": "be brief"}
    result = run(file, body)
    assert result.exit_code == 1
    assert "Hint: The fields are those of /v1/responses." in result.output
    result = run(file, body, "--path", "/v1/responses")
    assert result.exit_code == 0, result.output
    assert "Hint" not in result.output
    assert json.loads(result.stdout)["model"] == "m"


def test_the_command_explains_a_deployment_of_azure(file: Path) -> None:
    body = {"messages": CHAT["messages"]}
    result = run(file, body, "--path", "/openai/deployments/m/chat/completions")
    assert (result.exit_code, json.loads(result.stdout)["model"]) == (0, "m")
    assert run(file, CHAT, "--path", "/v1/nothing").exit_code == 2
