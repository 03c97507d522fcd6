"""`discover`: its forms, and how keys and budgets refer to models that are not in the file."""

from __future__ import annotations

import pytest

from gateway.config.discover import DiscoverConfig
from gateway.config.load import ConfigError, parse
from gateway.config.types import Config
from tests.support.each import each

HASH = "sha256:" + "5" * 64


def read(discover: str, rest: str = "", type: str = "vllm") -> Config:
    """Parse a configuration whose provider `box` has this setting."""
    text = f"providers: {{box: {{type: {type}, base_url: 'http://b/v1', discover: {discover}}}}}\nmodels: {{m: box/m}}\n{rest}"
    return parse(text.encode(), "g.yaml", environ={})


def test_the_default_name_is_provider_and_model() -> None:
    found = read("true").providers["box"].discovery
    assert found == DiscoverConfig()
    assert (found.name_for("box", "org/a"), found.every) == ("box/org/a", 300.0)
    assert [found.model_for("box", name) for name in ("box/org/a", "box/", "box", "other/a")] == ["org/a", None, None, None]
    assert read("false").providers["box"].discovery is None


def test_the_pattern_and_the_filter_apply_to_names_in_both_directions() -> None:
    found = read("{ as: 'box-*-x', only: ['llama-*', qwen], every: 1m }").providers["box"].discovery
    assert found is not None
    assert found.name_for("box", "llama-3") == "box-llama-3-x"
    names = ("box-llama-3-x", "box-qwen-x", "box-qwen2-x", "box-x", "box--x", "llama-3")
    assert [found.model_for("box", name) for name in names] == ["llama-3", "qwen", None, None, None, None]


@each("setting", ["{ as: box }", "{ as: '*-*' }", "maybe", "{ every: 0s }"])
def test_an_unusable_setting_is_a_problem(setting: str) -> None:
    with pytest.raises(ConfigError):
        read(setting)


@each("kind", ["azure", "local"])
def test_a_type_without_a_list_is_refused(kind: str) -> None:
    more = "api_key: 'file:/dev/null', " if kind == "azure" else ""
    text = f"providers: {{p: {{type: {kind}, base_url: 'http://b/v1', {more}discover: true}}}}\nmodels: {{m: p/m}}\n"
    with pytest.raises(ConfigError) as refused:
        parse(text.encode(), "g.yaml", environ={})
    assert "has no list of callable models: name them under models" in str(refused.value)


@each("model", ["box/any", "box/*", "box/llama-*"])
def test_keys_may_allow_models_that_a_provider_may_list(model: str) -> None:
    keys = f"keys: {{k: {{hash: '{HASH}', models: ['{model}']}}}}\n"
    assert read("true", keys).keys["k"].models
    with pytest.raises(ConfigError, match="no model"):
        read("false", keys)


def test_a_budget_needs_prices_for_all_models_that_may_be_listed() -> None:
    keys = f"keys: {{k: {{hash: '{HASH}', models: [%s], limits: {{spend: 1 USD/day}}}}}}\n"
    with pytest.raises(ConfigError, match=r"box/any has no known price"):
        read("true", keys % "box/any")
    with pytest.raises(ConfigError, match=r"box/\* has no known price"):
        read("{as: 'b-*'}", keys % "'b-*'")
    priced = "true, prices: {'*': {prompt: 1, output: 1}}"
    assert read(priced, keys % "'box/*'").keys["k"].limits.spend


def test_settings_of_single_models_may_name_any_model_that_may_be_listed() -> None:
    assert read("true, models: {other: {limits: {concurrent: 1}}}").providers["box"].models
