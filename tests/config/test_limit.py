"""Limits: their values, and refusals with path and fix."""

from __future__ import annotations

import json

import jsonschema
import pytest

from gateway.config import load as config
from gateway.config.limit import Rate
from gateway.config.load import Config, ConfigError
from gateway.config.schema import schema_text
from tests.support.each import each

HASH = "sha256:" + "ab" * 32
BASE = "providers: {local: {}, openai: {api_key: '${K}'}, box: {type: vllm, base_url: 'http://x/v1'}}\nmodels: {m: %s}\n"


def parse(rest: str, target: str = "local/x") -> Config:
    """Return the configuration of a file with the model `m`."""
    return config.parse((BASE % target + rest).encode(), "g.yaml", environ={"K": "sk-0123456789abcdef"})


def key(limits: str, more: str = "") -> str:
    """Return a key with limits as YAML."""
    return f"keys: {{k: {{hash: '{HASH}', limits: {limits}{more}}}}}\n"


@each(
    ("written", "kind", "expected"),
    [
        ("600/min", "requests", Rate(600, "min")),
        ("200k/min", "tokens", Rate(200_000, "min")),
        ("1.5M/day", "prompt_tokens", Rate(1_500_000, "day")),
        ("10/s", "output_tokens", Rate(10, "s")),
        ("1.001k/min", "tokens", Rate(1001, "min")),
        ("16.1M/day", "tokens", Rate(16_100_000, "day")),
        ("0.000001M/h", "requests", Rate(1, "h")),
        ("7 / h", "requests", Rate(7, "h")),
        ("20", "concurrent", 20),
        ("50 USD/month", "spend", Rate(50 * 10**9, "month")),
        ("0.000000001 USD/day", "spend", Rate(1, "day")),
        ("2.50USD/day", "spend", Rate(2_500_000_000, "day")),
    ],
)
def test_limits_are_read(written: str, kind: str, expected: object) -> None:
    found = getattr(parse(key(f"{{{kind}: {written}}}")).keys["k"].limits, kind)
    assert found == ((expected,) if isinstance(expected, Rate) else expected)


@each(
    ("limits", "message"),
    [
        ("{requests: 600}", "keys.k.limits.requests: expected a rate such as 600/min, 200k/min or 1M/day: the window is missing"),
        ("{requests: 600/m}", "unknown window 'm', did you mean 'min'?"),
        ("{requests: 600/fortnight}", "unknown window 'fortnight'; known: s, min, h, day"),
        ("{requests: 600/month}", "unknown window 'month'; known: s, min, h, day"),
        ("{requests: -5/min}", "keys.k.limits.requests: a limit must be more than 0"),
        ("{requests: 0/min}", "a limit must be more than 0; to block a key, set disabled: true"),
        ("{requests: 1.5/min}", "a limit must be a whole number of at most 1,000,000,000,000"),
        ("{tokens: 9999999G/min}", "a limit must be a whole number of at most 1,000,000,000,000"),
        ("{tokens: 5x/min}", "unknown factor: use k, M or G"),
        ("{tokens: 1.0001k/min}", "a limit must be a whole number of at most"),
        ("{requests: []}", "keys.k.limits.requests: expected a value such as 600/min, got an empty list"),
        ("{requests: [5/min, 100/fortnight]}", "keys.k.limits.requests[1]: expected a rate such as 600/min"),
        ("{requests: [5/min, [6/h]]}", "keys.k.limits.requests[1]: expected a value such as 600/min, got a list"),
        ("{requests: [5/min, 10/s, 6/min]}", "keys.k.limits.requests[2]: second limit for the window 'min': remove one of them"),
        ("{spend: [5 USD/day, 6 USD/day]}", "keys.k.limits.spend[1]: second limit for the window 'day': remove one of them"),
        ("{spend: 5 USD/d}", "unknown window 'd', did you mean 'day'?"),
        ("{spend: 5 USD/w}", "unknown window 'w', did you mean 'week'?"),
        ("{timezone: Europe/Berlim}", "keys.k.limits.timezone: unknown time zone, expected a name such as Europe/Berlin or UTC"),
        ("{timezone: ../../etc/passwd}", "keys.k.limits.timezone: unknown time zone"),
        ("{timezone: ''}", "keys.k.limits.timezone: unknown time zone"),
        ("{input_tokens: 5/min}", "keys.k.limits.input_tokens: unknown key, did you mean 'prompt_tokens'?"),
        ("{uncached_tokens: 5/min}", "unknown key, did you mean 'uncached_prompt_tokens'?"),
        ("{requests: 5/min, requests: 6/min}", "keys.k.limits.requests: duplicate key, already set on line 3: remove one of them"),
        ("{rpm: 5}", "keys.k.limits.rpm: unknown key, did you mean 'requests'?"),
        ("{tpm: 5}", "keys.k.limits.tpm: unknown key, did you mean 'tokens'?"),
        ("{max_budget: 5}", "keys.k.limits.max_budget: unknown key, did you mean 'spend'?"),
        ("{max_parallel_requests: 5}", "keys.k.limits.max_parallel_requests: unknown key, did you mean 'concurrent'?"),
        ("{tokens: many}", "expected a rate such as"),
        ("{requests: ٥/min}", "keys.k.limits.requests: expected a rate such as"),
        ("{spend: ٥ USD/day}", "keys.k.limits.spend: expected an amount such as"),
        ("{concurrent: 0}", "keys.k.limits.concurrent: expected an integer, at least 1 and at most 1000000; got '0'"),
        ("{concurrent: -1}", "at least 1"),
        ("{concurrent: 5/min}", "expected an integer"),
        ("{spend: 50/month}", "keys.k.limits.spend: expected an amount such as 50 USD/month or 2.50 USD/day: the unit must be USD"),
        ("{spend: 50 EUR/month}", "the unit must be USD"),
        ("{spend: 50 USD}", "the period is missing: add /day, /week, /month or /total"),
        ("{spend: 50 USD/min}", "unknown window 'min'; known: day, week, month, total"),
        ("{spend: -1 USD/day}", "a budget must be more than 0"),
        ("{spend: 2000000 USD/day}", "a budget must be at most 1,000,000 USD"),
        ("{requests: 1/s, requests: 2/s}", "keys.k.limits.requests: duplicate key"),
        ("{request: 1/s}", "keys.k.limits.request: unknown key, did you mean 'requests'?"),
        ("{requests: 1/s, outage: shut}", "keys.k.limits.outage: expected one of "),
        ("600/min", "keys.k.limits: expected a mapping"),
    ],
)
def test_invalid_limits_are_refused_with_path_and_fix(limits: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(key(limits))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@each("nothing", ["", " ~", " null"])
@each(
    ("field", "message"),
    [
        ("limits", "expected a mapping, got nothing: add a value, or remove 'limits'"),
        ("limits_per_user", "expected a mapping, got nothing"),
        ("models", "expected a list or a mapping, got nothing: add a value, or remove 'models'"),
        ("team", "expected text, got nothing: add a value, or remove 'team'"),
        ("expires", "expected a value such as 2027-01-31, got nothing: add a value, or remove 'expires'"),
        ("disabled", "expected true or false, got nothing"),
        ("limits.requests", "expected a value such as 600/min, got nothing: add a value, or remove 'requests'"),
        ("limits.tokens", "expected a value such as 600/min, got nothing"),
        ("limits.concurrent", "expected an integer, got nothing: add a value, or remove 'concurrent'"),
        ("limits.spend", "expected a value such as 50 USD/month, got nothing: add a value, or remove 'spend'"),
        ("limits.outage", "expected one of closed, local_share, open, got nothing"),
    ],
)
def test_a_key_without_a_value_is_refused(field: str, message: str, nothing: str) -> None:
    block, _, inner = field.partition(".")
    lines = [f"    {block}:{'' if inner else nothing}", *([f"      {inner}:{nothing}"] if inner else [])]
    with pytest.raises(ConfigError) as caught:
        parse("\n".join(["keys:", "  k:", f"    hash: '{HASH}'", *lines]) + "\n")
    line = 5 + len(lines)
    assert str(caught.value).startswith(f"g.yaml:{line}:"), caught.value
    assert f": keys.k.{field}: {message}" in str(caught.value)


def test_sections_may_be_empty() -> None:
    assert parse("keys:\nteams:\n").keys == {}


@each("limits", [{"requests": "600"}, {"requests": 600}, {"spend": "5 EUR/day"}, {"concurrent": 0}, {"burst": 1}])
def test_the_schema_refuses_invalid_limits_too(limits: dict[str, object]) -> None:
    document = {"keys": {"k": {"hash": HASH, "limits": limits}}}
    assert list(jsonschema.Draft202012Validator(json.loads(schema_text())).iter_errors(document))


def test_several_windows_are_read_in_their_order() -> None:
    limits = parse(key("{requests: [10/s, 600/min], spend: [5 USD/day, 50 USD/month, 20 USD/week, 200 USD/total], timezone: Asia/Tokyo}"))
    found = limits.keys["k"].limits
    assert found.requests == (Rate(10, "s"), Rate(600, "min"))
    assert [(rate.amount // 10**9, rate.window) for rate in found.spend] == [(5, "day"), (50, "month"), (20, "week"), (200, "total")]
    assert found.timezone == "Asia/Tokyo"


def models_key(models: str) -> str:
    """Return a key whose `models` are written as given."""
    return key("{}", f", models: {models}")


@each(
    ("models", "message"),
    [
        ("{m: {limits: {requests: 5/m}}}", "keys.k.models.m.limits.requests: expected a rate such as 600/min"),
        ("{m: {limit: {}}}", "keys.k.models.m.limit: unknown key, did you mean 'limits'?"),
        ("{n: {}}", "keys.k.models.n: no model 'n' in this file"),
        ("{m: }", "keys.k.models.m: expected a mapping, got nothing: write {} to use all defaults"),
        ("{m: {limits: {requests: [1/s, 2/s]}}}", "keys.k.models.m.limits.requests[1]: second limit for the window 's'"),
        ("{m: {limits: {spend: 5 USD/day}}}", "keys.k.models.m.limits.spend: box/x has no known price"),
        ("{'*': {limits: {spend: 5 USD/day}}}", "limits.spend: box/x has no known price"),
        ("m", "keys.k.models: expected a list or a mapping"),
        ("[m, {}]", "keys.k.models[1]: expected text"),
    ],
)
def test_mistakes_in_the_settings_of_models_are_refused_with_their_path(models: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(models_key(models), "box/x")
    assert message in str(caught.value)


def test_the_settings_of_models_match_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    for models in ({"m": {"limits": {"requests": ["1/s", "2/min"]}}, "m*": {}}, ["m"]):
        limits = {"spend": ["5 USD/week", "9 USD/total"], "timezone": "Europe/Berlin", "tokens": "1k/s"}
        validator.validate({
            "providers": {"local": {}}, "models": {"m": "local/x"}, "keys": {"k": {"hash": HASH, "models": models, "limits": limits}},
        })  # fmt: skip
    for limits in ({"requests": []}, {"requests": [["1/s"]]}, {"spend": ["5 USD/year"]}, {"timezone": "a b"}):
        entry = {"hash": HASH, "limits": limits}
        errors = validator.iter_errors({"providers": {"local": {}}, "models": {"m": "local/x"}, "keys": {"k": entry}})
        assert list(errors), limits
