"""Settings that require an optional package are refused without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.extras import EXTRAS, check_extras, has_extra, missing_engine
from gateway.config.load import ConfigError, parse
from gateway.config.problem import Problems
from tests.support.each import each

TRACES = 'traces: { endpoint: "http://127.0.0.1:4318" }\n'
PACKAGE_MISSING = (
    'requires packages that are not installed: run pip install ".[{}]" in the checkout of Lockgate (docs/installation.md)'
)


@each("missing", EXTRAS["otel"])
def test_traces_are_refused_without_opentelemetry(missing: str) -> None:
    problems = Problems("gateway.yaml")
    check_extras(parse(TRACES.encode(), "gateway.yaml", environ={}), problems, lambda module: module != missing)
    assert [(one.path, one.message) for one in problems.in_order] == [("traces", PACKAGE_MISSING.format("otel"))]


def test_tokenizers_are_refused_without_their_package(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    text = f"providers: {{ local: {{}} }}\nmodels:\n  m: {{ targets: local/x, context: {{ window: 100, tokenizer: {file} }} }}\n"
    with pytest.raises(ConfigError) as found:
        parse(text.encode(), "gateway.yaml", environ={})
    (problem,) = found.value.problems
    assert (problem.line, problem.path, problem.message) == (3, "models.m.context.tokenizer", PACKAGE_MISSING.format("tokenizers"))


@each("missing", EXTRAS["jwt"])
def test_issuers_are_refused_without_the_packages_that_verify_tokens(missing: str) -> None:
    problems = Problems("gateway.yaml")
    text = b"issuers: { staff: { issuer: 'https://login.example.com', audience: lockgate } }"
    check_extras(parse(text, "gateway.yaml", environ={}), problems, lambda module: module != missing)
    assert [(one.path, one.message) for one in problems.in_order] == [("issuers", PACKAGE_MISSING.format("jwt"))]


def test_missing_engine_is_a_warning_because_other_targets_are_served() -> None:
    config = parse(b"providers: { mine: { type: local } }\nmodels: { a: mine/smollm2-135m-instruct }", "gateway.yaml", environ={})
    expected = f"the engine of providers.mine is not installed: {PACKAGE_MISSING.format('local').partition(': ')[2]}"
    assert missing_engine(config, lambda module: False) == [expected]
    assert missing_engine(config, lambda module: True) == []
    assert missing_engine(parse(b"models: {}", "gateway.yaml", environ={}), lambda module: False) == []


def test_installed_packages_of_an_extra_are_found() -> None:
    assert has_extra("jwt")
    assert not has_extra("tokenizers")


def test_a_configuration_that_uses_neither_needs_no_extra() -> None:
    problems = Problems("gateway.yaml")
    check_extras(parse(b"models: {}", "gateway.yaml", environ={}), problems, lambda module: False)
    assert problems.in_order == []
