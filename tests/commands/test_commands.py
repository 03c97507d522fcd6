"""The commands, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner, Result
from rich.console import Console

from gateway.commands.check import check, schema
from gateway.commands.diff import diff
from gateway.commands.explain import explain, explain_file
from gateway.commands.key import as_yaml
from gateway.commands.key import check as check_key
from gateway.commands.models import models
from gateway.commands.openapi import openapi
from gateway.commands.output import installed_version
from gateway.commands.route import route
from gateway.commands.serve import serve
from gateway.commands.targets import targets
from gateway.commands.top import top
from gateway.commands.top_readings import Frame, parse
from gateway.commands.top_screen import MAX_TABLE_ROWS, screen
from gateway.commands.version import completion, version
from gateway.metrics.registry import Metrics

YAML = 'providers: {up: {type: vllm, base_url: "http://h/v1"}}\nmodels: {m: up/a}\n'
CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def invoke(command: Command, *args: str, stdin: bytes = b"") -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(command, args, input=stdin)


@pytest.fixture
def config_path(tmp_path: Path) -> str:
    """Return the path of a configuration file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    return str(path)


def test_models_lists_the_pattern_of_discovered_models(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text('providers: {up: {type: vllm, base_url: "http://h/v1", discover: {as: "u-*"}}}\nmodels: {m: up/a}\n')
    assert invoke(models, "-c", str(path)).output == "m    up/a\nu-*  the models that up lists\n"
    assert json.loads(invoke(models, "--json", "-c", str(path)).output)["discovered"] == [{"provider": "up", "as": "u-*"}]


def test_check_counts_the_entries_of_a_valid_file(config_path: str) -> None:
    result = json.loads(invoke(check, config_path, "--json").stdout)
    assert (result["ok"], result["providers"], result["models"], result["keys"]) == (True, 1, 1, 0)


def test_check_counts_issuers_if_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(YAML + "issuers: { staff: { issuer: 'https://login.example.com', audience: lockgate } }\n")
    assert invoke(check, str(path)).stdout.endswith("ok (1 provider, 1 model, 0 keys, 1 issuer)\n")


def test_schema_is_json_and_the_reference_is_not() -> None:
    assert "properties" in json.loads(invoke(schema).stdout)
    assert invoke(schema, "--markdown").stdout.startswith("#")


@pytest.mark.parametrize(("listener", "path"), [("callers", "/chat/completions"), ("admin", "/admin/keys")])
def test_openapi_prints_the_document_of_a_listener(listener: str, path: str) -> None:
    whole, one = (json.loads(invoke(openapi, *args).stdout) for args in ((), ("--listener", listener)))
    assert path in one["paths"]
    assert one["paths"].keys() < whole["paths"].keys()
    assert whole["openapi"] == "3.1.0"


def test_diff_exits_with_1_if_the_files_differ(config_path: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(YAML.replace("up/a", "up/b"))
    assert (invoke(diff, config_path, config_path).exit_code, invoke(diff, config_path, str(other)).exit_code) == (0, 1)


def test_absent_secrets_are_listed_and_allowed_on_request(tmp_path: Path) -> None:
    path = tmp_path / "production.yaml"
    path.write_text('providers: { openai: { api_key: "${NOT_SET_HERE}" } }\nmodels: { m: openai/gpt-4o }\n')
    line = f"{path}:1:33: providers.openai.api_key: the environment variable NOT_SET_HERE is not set"
    assert line in str(invoke(check, str(path)).exception)
    allowed = invoke(check, str(path), "--allow-absent")
    assert (allowed.exit_code, allowed.stdout.splitlines()[0]) == (0, f"{line} (allowed)")
    found = json.loads(invoke(check, str(path), "--allow-absent", "--json").stdout)
    assert [one["path"] for one in found["absent"]] == ["providers.openai.api_key"]
    compared = invoke(diff, str(path), str(path), "--allow-absent")
    assert (compared.exit_code, compared.stdout) == (0, f"{line} (allowed)\n" * 2)


def test_explain_reads_the_request_from_stdin(config_path: str) -> None:
    result = invoke(explain, "-", "--config", config_path, stdin=CHAT)
    assert [target["target"] for target in json.loads(result.stdout)["targets"]] == ["up/a"]
    assert explain_file(config_path, CHAT.replace(b'"m"', b'"x"'), {})["status"] == 404


def test_key_entry_is_checked_and_quoted() -> None:
    hash = "sha256:" + "0" * 64
    assert check_key("team", {"hash": hash}) == ()
    assert check_key("team", {"hash": "sha256:0"}) != ()
    assert as_yaml("no", {"hash": hash}) == f'keys:\n  "no":\n    hash: "{hash}"'


def test_route_rejects_a_malformed_header(config_path: str) -> None:
    assert json.loads(invoke(route, "m", "-c", config_path, "--n", "3", "--json").stdout)["first"] == {"up/a": 3}
    assert invoke(route, "m", "-c", config_path, "-H", "no-colon").exit_code == 2


def test_serve_returns_2_for_a_missing_file(tmp_path: Path) -> None:
    assert invoke(serve, "--config", str(tmp_path / "missing.yaml")).exit_code == 2
    assert invoke(serve, "--workers", "0").exit_code == 2


@pytest.mark.parametrize("command", [targets, top], ids=["targets", "top"])
def test_commands_for_a_running_gateway_reject_a_malformed_url(command: Command) -> None:
    result = invoke(command, "--admin", "127.0.0.1:8081")
    assert (result.exit_code, "--admin must be a URL" in result.output) == (2, True)


def test_screen_shortens_a_long_table() -> None:
    metrics = Metrics([], [f"up/{number}" for number in range(MAX_TABLE_ROWS + 3)], {"up": "vllm"})
    states = {(f"up/{number}", "live"): 1.0 for number in range(MAX_TABLE_ROWS + 3)}
    metrics.gauge("lockgate_target_state", lambda: states)
    now = parse(metrics.expose().decode(), 1.0)
    console = Console(width=140)
    with console.capture() as capture:
        console.print(screen(Frame(now, now), "http://admin", {"up/0": "rate_limit, 5 s left"}))
    assert "... 3 more" in capture.get()
    assert "rate_limit, 5 s left" in capture.get()


def test_version_and_completion_name_the_program() -> None:
    assert invoke(version).stdout == f"lockgate {installed_version()}\n"
    assert "_LOCKGATE_COMPLETE" in invoke(completion, "zsh").stdout
    assert invoke(completion, "tcsh").exit_code == 2
