"""The tokenizer of each model."""

from __future__ import annotations

from gateway.tokens.tokenizer import BY_BYTES, FALLBACK, Tokenizer, tokenizer_for
from tests.support.each import each


@each(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5-nano", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
    ],
)
def test_openai_models_have_their_own_encoding(model: str, encoding: str) -> None:
    assert tokenizer_for("openai", model) == Tokenizer(encoding, exact=True)
    assert tokenizer_for("azure", model) == Tokenizer(encoding, exact=True)


def test_other_models_are_counted_with_the_fallback_factor() -> None:
    assert tokenizer_for("groq", "llama-3.3-70b-versatile") == FALLBACK
    assert tokenizer_for("openai", "some-new-model") == FALLBACK
    assert FALLBACK.label() == "o200k_base x 1.2"


def test_only_ids_of_the_models_own_tokenizer_are_known() -> None:
    assert tokenizer_for("openai", "gpt-4o").has_ids
    assert tokenizer_for("vllm", "mine", "/t/tokenizer.json").has_ids
    assert not FALLBACK.has_ids
    assert not BY_BYTES.has_ids
