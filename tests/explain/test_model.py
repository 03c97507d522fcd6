"""The description of a model contains the known properties of its targets."""

from __future__ import annotations

from typing import Any

from gateway.config.load import parse
from gateway.explain.model import describe_model
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog

YAML = """
providers:
  openai: { api_key: "${K}", prices: { own: { prompt: 1, output: 2.5, cached: 0.5 } } }
  groq: { api_key: "${K}" }
  up: { type: openai-compatible, base_url: "http://127.0.0.1:9/v1" }
models:
  one: { targets: openai/own, context: { window: 9000, output: 400 } }
  several: [openai/gpt-4o, groq/llama-3.3-70b-versatile, up/mock]
  unknown: up/mock
"""


def describe(name: str, *down: str, brief: bool = False) -> dict[str, Any]:
    router = Gateway(parse(YAML.encode(), "g.yaml", environ={"K": "k"}), CallLog(2, human=True), lambda line: None).generation.router
    return describe_model(name, router.all_candidates(router.find(name)), lambda target: target not in down, brief=brief)


def test_configured_limits_and_prices_are_shown_in_the_units_of_the_configuration() -> None:
    assert describe("one", brief=True) == {
        "id": "one",
        "object": "model",
        "created": 0,
        "owned_by": "openai",
        "context_window": 9000,
        "max_output_tokens": 400,
        "pricing": {"prompt": 1.0, "output": 2.5, "cached": 0.5},
        "available": True,
    }


def test_limits_fit_every_target_and_prices_are_those_of_the_first() -> None:
    model = describe("several")
    first, second, third = model["targets"]
    assert model["context_window"] == min(first["context_window"], second["context_window"])
    assert model["max_output_tokens"] == min(first["max_output_tokens"], second["max_output_tokens"])
    assert model["pricing"] == first["pricing"]
    assert first["context_window"] != second["context_window"] or first["max_output_tokens"] != second["max_output_tokens"]
    assert third.keys() == {"target", "available", "parameters"}
    assert third["parameters"]["stop"]["support"]


def test_unknown_figures_are_left_out() -> None:
    assert describe("unknown", brief=True) == {"id": "unknown", "object": "model", "created": 0, "owned_by": "up", "available": True}


def test_a_model_is_available_while_one_of_its_targets_is() -> None:
    model = describe("several", "openai/gpt-4o")
    assert model["available"]
    assert [target["available"] for target in model["targets"]] == [False, True, True]
    assert not describe("unknown", "up/mock")["available"]
