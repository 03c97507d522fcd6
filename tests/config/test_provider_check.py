"""Checks of a provider: timeouts of parts against the whole, the cooldown, the queue, passed fields, load reports."""

from __future__ import annotations

import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.provider_check import PARTIAL_TIMEOUTS
from tests.support.each import each


def problems(settings: str) -> str:
    """Return the messages for a provider with these settings, or an empty string."""
    text = f"providers: {{ ollama: {{ {settings} }} }}\nmodels: {{ m: ollama/x }}\n"
    try:
        parse(text.encode(), "gateway.yaml", environ={})
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", PARTIAL_TIMEOUTS)
def test_a_partial_timeout_must_not_exceed_the_timeout(name: str) -> None:
    assert f"providers.ollama.{name}: longer than timeout (5 s)" in problems(f"timeout: 5s, {name}: 6s")
    assert problems(f"timeout: 5s, {name}: 5s") == ""


def test_a_default_may_exceed_the_timeout() -> None:
    assert problems("timeout: 5s") == ""


@pytest.mark.parametrize("setting", ["max_queue: 5", "max_wait: 1s"])
def test_a_queue_requires_a_concurrency_limit(setting: str) -> None:
    assert "requires max_concurrent" in problems(setting)
    assert problems(f"{setting}, max_concurrent: 3") == ""


def test_the_first_cooldown_must_not_exceed_the_longest() -> None:
    assert "longer than cooldown.max (10 s)" in problems("cooldown: { time: 20s, max: 10s }")
    assert problems("cooldown: { time: 10s, max: 10s }") == ""


@each("field", ["model", "messages", "stream", "n", "timeout_microseconds"])
def test_a_field_that_the_gateway_adapts_cannot_be_passed(field: str) -> None:
    assert f"providers.ollama.pass[1]: '{field}' cannot be passed" in problems(f"pass: [new, {field}]")
    assert problems("pass: [new, temperature]") == ""


def test_an_empty_name_of_a_passed_field_is_rejected() -> None:
    assert "providers.ollama.pass[0]: expected the name of a field, got nothing" in problems("pass: [' ']")


def test_only_a_vllm_server_reports_its_load() -> None:
    assert "providers.ollama.load_metrics: requires type: vllm" in problems("load_metrics: { every: 5s }")
    assert problems("load_metrics: { every: 5s }, type: vllm") == ""
    assert problems("load_metrics: false, type: vllm") == ""
    assert problems("load_metrics: true") == ""
