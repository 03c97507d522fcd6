"""Configurations of LiteLLM's proxy become configurations of the gateway; settings that are not converted are listed with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.commands.convert import convert
from gateway.config.load import Config, parse
from gateway.config.problem import Problems
from gateway.config.route import Order, Ref, Split
from gateway.convert.litellm import Conversion
from gateway.convert.litellm_provider import split_model
from gateway.convert.writing import quoted
from tests.support.each import each

FILE = "litellm.yaml"


@each(
    ("model", "split"),
    [
        ("azure/eu", ("azure", "eu")), ("openai/org/m", ("openai", "org/m")), ("gpt-4o", ("openai", "gpt-4o")),
        ("o3", ("openai", "o3")), ("claude-x", ("anthropic", "claude-x")), ("bedrock/m", ("", "bedrock/m")), ("m", ("", "m")),
    ],
)  # fmt: skip
def test_the_prefix_or_the_name_of_a_model_tells_its_vendor(model: str, split: tuple[str, str]) -> None:
    assert split_model(model) == split


@each(("text", "yaml_text"), [("a-b/c", "a-b/c"), ("no", '"no"'), ("*", '"*"'), ("6/min", '"6/min"'), ("a b", '"a b"'), ("", '""')])
def test_texts_are_quoted_where_yaml_would_read_something_else(text: str, yaml_text: str) -> None:
    assert quoted(text) == yaml_text
    assert yaml.safe_load(f"k: {yaml_text}") == {"k": text}


def converted(text: str) -> tuple[Config, dict[str, Any], list[tuple[int, str, str]]]:
    """Return the configuration, its YAML as plain values, and line, path and message of each note."""
    conversion = Conversion(text.encode(), FILE)
    result = conversion.text()
    notes = [(note.line, note.path, note.message) for note in conversion.notes]
    return parse(result.encode(), "gateway.yaml", environ={}, absent=Problems("gateway.yaml")), yaml.safe_load(result), notes


def deployment(name: str, rest: str) -> str:
    """Return an entry of model_list in one line."""
    return f"  - {{ model_name: {name}, litellm_params: {{ {rest} }} }}\n"


TWO = """\
model_list:
  - model_name: gpt-4o
    litellm_params: { model: azure/eu, api_base: "https://eu.openai.azure.com/", api_key: os.environ/EU, rpm: 6, tpm: 100000, weight: 2 }
  - model_name: gpt-4o
    litellm_params: { model: azure/ca, api_base: os.environ/CA_BASE, api_key: os.environ/CA }
  - model_name: claude
    litellm_params: { model: anthropic/claude-sonnet-4-5, api_key: os.environ/A }
    model_info: { mode: chat, input_cost_per_token: 0.000003, output_cost_per_token: 0.000015 }
  - model_name: claude-mini
    litellm_params: { model: anthropic/claude-haiku-4-5, api_key: os.environ/A }
"""


def test_a_fallback_that_a_pattern_matches_becomes_its_target() -> None:
    models = deployment("gpt-4o", "model: openai/gpt-4o") + deployment("claude-*", "model: anthropic/claude-*")
    _, values, notes = converted(
        f"model_list:\n{models}" + "router_settings:\n  fallbacks: [{ gpt-4o: [claude-sonnet-4, gone] }]\n"
    )
    route = values["models"]["gpt-4o"]
    assert (route["targets"] if isinstance(route, dict) else route) == ["openai/gpt-4o", "anthropic/claude-sonnet-4"]
    assert [message for _, _, message in notes if "model_list" in message] == ["no model 'gone' in model_list"]


def test_deployments_of_one_name_become_a_split_and_fallbacks_an_order() -> None:
    rest = """\
router_settings: { routing_strategy: least-busy, num_retries: 2, timeout: 30, allowed_fails: 3, cooldown_time: 60 }
litellm_settings:
  fallbacks: [{ gpt-4o: [claude] }]
  content_policy_fallbacks: [{ claude: [claude-mini] }]
"""
    config, plain, notes = converted(TWO + rest)
    model = config.models["gpt-4o"]
    split = Split(((Ref("azure", "eu"), 2.0), (Ref("azure-2", "ca"), 1.0)))
    assert (model.targets, model.balance, model.attempts, model.timeout) == (Order((split, Ref(None, "claude"))), "least_busy", 3, 30.0)
    assert config.models["claude"].fallback_on == ["content_filter"]
    assert config.models["claude"].balance is None
    azure = plain["providers"]["azure"]
    assert azure["base_url"] == "https://eu.openai.azure.com/openai/v1"
    assert azure["models"] == {"eu": {"limits": {"requests": "6/min", "tokens": "100000/min"}}}
    assert plain["providers"]["azure-2"]["base_url"] == "${CA_BASE}"
    assert list(plain["providers"]) == ["azure", "azure-2", "anthropic"], "models of one credential share a provider"
    assert plain["providers"]["anthropic"]["prices"] == {"claude-sonnet-4-5": {"prompt": 3.0, "output": 15.0}}
    assert (config.providers["anthropic"].cooldown.failures, config.providers["anthropic"].cooldown.time) == (4, 60.0)
    assert notes == []


@each(
    ("params", "target", "provider"),
    [
        ("model: gpt-3.5-turbo", "openai/gpt-3.5-turbo", {"api_key": "${OPENAI_API_KEY}"}),
        ("model: o3-mini, api_key: os.environ/K", "openai/o3-mini", {"api_key": "${K}"}),
        ("model: claude-3-opus", "anthropic/claude-3-opus", {"api_key": "${ANTHROPIC_API_KEY}"}),
        ("model: groq/llama3-70b-8192", "groq/llama3-70b-8192", {"api_key": "${GROQ_API_KEY}"}),
        (
            "model: openai/org/opt, api_base: 'http://gpu:4000/v1'",
            "openai-compatible/org/opt",
            {"base_url": "http://gpu:4000/v1"},
        ),
        ("model: ollama_chat/llama3, api_base: 'http://gpu:11434'", "ollama-chat/llama3", {"type": "ollama", "base_url": "http://gpu:11434/v1"}),
        ("model: hosted_vllm/m, api_base: 'http://gpu:8000/v1'", "hosted-vllm/m", {"type": "vllm", "base_url": "http://gpu:8000/v1"}),
        (
            "model: perplexity/sonar",
            "perplexity/sonar",
            {"type": "openai-compatible", "base_url": "https://api.perplexity.ai"},
        ),
        ("model: openrouter/meta-llama/llama-3", "openrouter/meta-llama/llama-3", {"api_key": "${OPENROUTER_API_KEY}"}),
        (
            "model: openai/gpt-4o, organization: org-1",
            "openai/gpt-4o",
            {"api_key": "${OPENAI_API_KEY}", "headers": {"OpenAI-Organization": "org-1"}},
        ),
    ],
)  # fmt: skip
def test_a_deployment_becomes_a_target_of_a_provider(params: str, target: str, provider: dict[str, Any]) -> None:
    config, plain, notes = converted("model_list:\n" + deployment("m", params))
    assert str(config.models["m"].targets) == target
    assert plain["providers"] == {target.partition("/")[0]: provider}
    assert notes == []


def test_wildcards_pass_names_through() -> None:
    config, _, _ = converted("model_list:\n" + deployment('"openai/*"', 'model: "openai/*"'))
    assert config.models["openai/*"].targets == Ref("openai", "*")


def test_aliases_redis_and_the_master_key_are_carried_over() -> None:
    rest = """\
router_settings:
  model_group_alias: { gpt-4: gpt-4o, hidden: { model: claude, hidden: true } }
  redis_host: r
  redis_password: os.environ/P
general_settings: { master_key: sk-a-long-master-key-of-a-team }
"""
    config, plain, notes = converted(TWO + rest)
    assert (config.models["gpt-4"].targets, config.models["hidden"].targets) == (Ref(None, "gpt-4o"), Ref(None, "claude"))
    assert (config.store, plain["store_password"]) == ("redis://r:6379/0", "${P}")
    assert list(config.keys) == ["master"]
    assert config.keys["master"].hash.startswith("sha256:")
    assert "sk-a-long" not in str(plain)
    assert notes == []


def test_everything_else_is_listed_with_its_line() -> None:
    text = """\
model_list:
  - model_name: b
    litellm_params: { model: bedrock/anthropic.claude-v2 }
  - model_name: c
    litellm_params: { model: gpt-4o, api_key: sk-secret-in-the-file, temperature: 0.2, max_parallel_requests: 3 }
  - model_name: "*"
    litellm_params: { model: "*" }
litellm_settings:
  callbacks: [langfuse]
  drop_params: true
  fallbacks: [{ c: [gone] }, { lost: [c] }]
router_settings: { routing_strategy: usage-based-routing-v2 }
general_settings: { master_key: os.environ/MASTER, database_url: x }
environment_variables: { A: b }
guardrails: []
"""
    _, plain, notes = converted(text)
    assert [(line, path) for line, path, _ in notes] == [
        (3, "model_list[0].litellm_params.model"),
        (5, "model_list[1].litellm_params.api_key"),
        (5, "model_list[1].temperature"),
        (5, "model_list[1].max_parallel_requests"),
        (7, "model_list[2].litellm_params.model"),
        (9, "litellm_settings.callbacks"),
        (11, "litellm_settings.fallbacks"),
        (11, "litellm_settings.fallbacks"),
        (12, "router_settings.routing_strategy"),
        (13, "general_settings.master_key"),
        (13, "general_settings.database_url"),
        (14, "environment_variables"),
        (15, "guardrails"),
    ]
    assert "sk-secret" not in str(plain) + str(notes)
    assert plain["models"] == {"c": "openai/gpt-4o"}


@each(
    ("where", "name", "value", "is_noted"),
    [
        ("litellm_params", "max_tokens", "300", True),
        ("litellm_params", "max_completion_tokens", "300", True),
        ("litellm_params", "max_output_tokens", "300", True),
        ("litellm_params", "max_input_tokens", "300", True),
        ("litellm_params", "reasoning_effort", "low", True),
        ("model_info", "max_tokens", "300", False),
        ("model_info", "max_input_tokens", "300", False),
        ("litellm_params", "input_cost_per_token", "0.1", True),
        ("model_info", "cache_read_input_token_cost", "0.1", True),
        ("litellm_params", "rpm", "os.environ/RPM", True),
        ("litellm_params", "timeout", "os.environ/TIMEOUT", True),
    ],
)
def test_no_setting_of_a_deployment_is_lost_without_a_note(where: str, name: str, value: str, is_noted: bool) -> None:
    params = {"litellm_params": "model: openai/gpt-4o", "model_info": "mode: chat"}
    params[where] += f", {name}: {value}"
    text = "model_list:\n  - model_name: m\n" + "".join(f"    {key}: {{ {fields} }}\n" for key, fields in params.items())
    _, plain, notes = converted(text)
    assert [path for _, path, _ in notes] == ([f"model_list[0].{name}"] if is_noted else [])
    assert plain["models"] == {"m": "openai/gpt-4o"}


@each(
    ("fields", "prices"),
    [
        ("input_cost_per_token: 0.000002, mode: embedding", {"prompt": 2, "output": 0}),
        ("input_cost_per_token: 0.000002, output_cost_per_token: 0.000008", {"prompt": 2, "output": 8}),
        (
            "input_cost_per_token: 0.000003, output_cost_per_token: 0.000015, cache_read_input_token_cost: 3.0e-7, "
            "cache_creation_input_token_cost: 0.00000375, output_cost_per_reasoning_token: 0.00002",
            {"prompt": 3, "output": 15, "cached": 0.3, "cache_write": 3.75, "reasoning": 20},
        ),
    ],
)
def test_all_kinds_of_prices_are_carried_over(fields: str, prices: dict[str, float]) -> None:
    text = f"model_list:\n  - model_name: m\n    litellm_params: {{ model: openai/x }}\n    model_info: {{ {fields} }}\n"
    config, plain, notes = converted(text)
    assert plain["providers"]["openai"]["prices"] == {"x": prices}
    assert config.providers["openai"].prices["x"].prompt == prices["prompt"]
    assert notes == []


def test_values_that_are_not_numbers_are_noted() -> None:
    rest = "litellm_settings: { num_retries: many, cooldown_time: -1 }\n"
    config, _, notes = converted(TWO.replace("weight: 2", "weight: heavy") + rest)
    assert [path for _, path, _ in notes] == ["model_list[0].weight", "litellm_settings.num_retries", "litellm_settings.cooldown_time"]
    assert config.models["claude"].attempts == 1


def test_the_command_writes_the_file_and_lists_notes_on_stderr(tmp_path: Path) -> None:
    source, target = tmp_path / "litellm.yaml", tmp_path / "gateway.yaml"
    source.write_text(TWO + "litellm_settings: { cache: true }\n")
    result = CliRunner().invoke(convert, [str(source), "-o", str(target)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{source}:11:21: litellm_settings.cache: not carried over\n"
    assert parse(target.read_bytes(), str(target), environ={}, absent=Problems("")).models.keys() == {"gpt-4o", "claude", "claude-mini"}


@pytest.mark.parametrize(("text", "code"), [("general_settings: { master_key: sk-1234 }", 1), (TWO, 0)])
def test_the_exit_code_tells_whether_the_result_can_be_used(tmp_path: Path, text: str, code: int) -> None:
    source = tmp_path / "litellm.yaml"
    source.write_text(text)
    assert CliRunner().invoke(convert, [str(source)]).exit_code == code
