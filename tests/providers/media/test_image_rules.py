"""Properties of the rules for pictures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from providers.media.image_rules import covering_patches, fitted, patches
from providers.media.table import _ANTHROPIC, _COHERE, _GEMINI, _MISTRAL, _OPEN_MODELS, _OPENAI, _XAI, UNKNOWN

RULES = [rules for rows in (_OPENAI, _ANTHROPIC, _GEMINI, _MISTRAL, _XAI, _COHERE, _OPEN_MODELS) for _, rules in rows] + [UNKNOWN]
EDGES = st.integers(1, 20_000)


@given(EDGES, EDGES, st.sampled_from(RULES), st.sampled_from([None, "auto", "low", "high", "original"]))
def test_no_picture_has_more_tokens_than_the_maximum_of_its_rule(width: int, height: int, rules: object, detail: str | None) -> None:
    image = rules.image  # type: ignore[attr-defined]
    assert 0 < image.tokens((width, height), detail) <= image.maximum(detail)


@given(EDGES, EDGES, st.integers(100, 10_000))
def test_patches_are_at_most_the_maximum_and_unscaled_below_it(width: int, height: int, most: int) -> None:
    count = covering_patches((width, height), most)
    assert count <= max(most, max(width, height) // min(width, height))
    assert count == patches((width, height), 32) or patches((width, height), 32) > most


def test_a_picture_is_only_scaled_down() -> None:
    assert fitted((100, 50), 200) == (100, 50)
    assert fitted((400, 200), 200) == (200, 100)
