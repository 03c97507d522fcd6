"""Routes: their targets in order, and those that are tried first."""

from __future__ import annotations

import pytest

from gateway.config.load import Config, parse
from gateway.config.problem import ConfigError
from gateway.config.route import Order, Ref, Split, refs
from gateway.config.route_check import first_targets, refs_with_weight
from tests.support.each import each

A, B, C = Ref("p", "a"), Ref("p", "b"), Ref("p", "c")
OTHER = Ref(None, "other")


@pytest.fixture(scope="module")
def config() -> Config:
    """Return a configuration in which `other` is a split."""
    text = "providers: { p: { type: vllm, base_url: 'http://x/v1' } }\nmodels: { other: { p/b: 1, p/c: 0 } }\n"
    return parse(text.encode(), "gateway.yaml", environ={})


def test_refs_are_in_the_order_of_the_file() -> None:
    assert list(refs(Order((Split(((A, 1), (B, 0))), OTHER)))) == [A, B, OTHER]


def test_targets_of_weight_zero_can_be_left_out() -> None:
    assert list(refs_with_weight(Order((Split(((A, 1), (B, 0))), OTHER)))) == [A, OTHER]


@each(
    ("route", "targets"),
    [
        (A, [A]),
        (Order((A, B)), [A]),
        (Split(((A, 1), (B, 1))), [A, B]),
        (Order((OTHER, A)), [B, C]),
        (Split(((OTHER, 1), (A, 1))), [B, C, A]),
        (Ref(None, "unknown"), []),
    ],
)
def test_first_targets_follow_models(config: Config, route: Ref | Order | Split, targets: list[Ref]) -> None:
    assert first_targets(config, route) == targets


def test_a_ref_is_written_as_in_the_file() -> None:
    assert (str(A), str(OTHER)) == ("p/a", "other")


VARIANTS = "providers: {{ g: {{ type: goodfire, api_key: '${{K}}'{variants} }} }}\nmodels: {{ {models} }}\n"
PIRATE = ", variants: { pirate: [{ uuid: 0123abcd, value: 0.5 }] }"


@pytest.mark.parametrize(
    ("variants", "models", "path"),
    [
        ("", "m: g/llama@pirate", "models.m"),
        (PIRATE, "m: g/llama@pirat", "models.m"),
        (PIRATE, "m: [g/llama@pirate, g/llama@other]", "models.m[1]"),
        (PIRATE, "m: { g/llama: 1, g/llama@other: 1 }", "g/llama@other"),
        (PIRATE, "m: g/llama@", "models.m"),
        (PIRATE, "m: { targets: g/llama, mirror: g/llama@other }", "models.m.mirror"),
    ],
)
def test_a_variant_that_the_provider_does_not_have_is_reported(variants: str, models: str, path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(VARIANTS.format(variants=variants, models=models).encode(), "gateway.yaml", environ={"K": "k"})
    text = str(refused.value)
    assert path in text
    assert "variant" in text


def test_a_variant_of_the_settings_is_accepted() -> None:
    text = VARIANTS.format(variants=PIRATE, models="m: [g/llama@pirate, g/llama], other: m")
    assert set(parse(text.encode(), "gateway.yaml", environ={"K": "k"}).models) == {"m", "other"}
