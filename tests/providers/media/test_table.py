"""Tokens of pictures at models of each vendor: the vendors' own examples, and measured values."""

from __future__ import annotations

from providers.media.table import PAGE_TEXT, UNKNOWN, media_rules
from tests.support.each import each


@each(
    ("model", "size", "detail", "tokens"),
    [
        # the examples of OpenAI's guide
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o", (512, 512), None, 255),
        ("gpt-4o", (3000, 1200), "auto", 1445),
        ("chatgpt-4o-latest", (1024, 1024), None, 765),
        ("gpt-4.1", (1024, 1024), None, 765),
        ("gpt-4o-mini", (1024, 1024), "high", 25_501),
        ("gpt-4o-mini", (1024, 1024), "low", 2_833),
        ("gpt-5", (1024, 1024), "high", 630),
        ("gpt-5-chat-latest", (1024, 1024), "low", 70),
        ("o3", (1024, 1024), "high", 675),
        ("o1", (1024, 1024), "low", 75),
        ("gpt-4.1-mini", (1024, 1024), None, 1_659),
        ("gpt-4.1-mini", (1800, 2400), None, 2_353),
        ("gpt-4.1-nano", (1024, 1024), "low", 2_520),
        ("o4-mini", (1024, 1024), None, 1_762),
        ("gpt-5-mini", (1024, 1024), None, 1_659),
        # measured: huggingface.co/datasets/JOHNISKING/image-token-cost
        ("gpt-5.5", (256, 256), "auto", 77),
        ("gpt-5.5", (1920, 1080), "high", 2_448),
        ("gpt-5.5", (2560, 1440), "auto", 4_320),
        ("gpt-5.5", (2560, 1440), "high", 2_931),
        ("gpt-5.5", (3840, 2160), None, 9_792),
        ("gpt-5.5", (4032, 3024), "auto", 11_868),
        ("gpt-5.5", (4032, 3024), "high", 2_942),
        ("gpt-6-astra", (4032, 3024), "auto", 14_364),
        ("gpt-5.4", (4032, 3024), "auto", 2_942),
        ("gpt-5.4", (4032, 3024), "original", 11_868),
    ],
)
def test_openai(model: str, size: tuple[int, int], detail: str | None, tokens: int) -> None:
    assert media_rules("openai", model).image.tokens(size, detail) == tokens
    assert media_rules("azure", model) == media_rules("openrouter", f"openai/{model}") == media_rules("openai", model)


def test_fine_tuned_models_are_counted_like_their_base() -> None:
    for base in ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4.1-nano-2025-04-14"):
        tuned = f"ft:{base}:acme::abc123"
        assert media_rules("openai", tuned) == media_rules("azure", tuned) == media_rules("openai", base)


@each(
    ("model", "size", "tokens"),
    [
        ("claude-sonnet-4-6", (1000, 1000), 1_334),
        ("claude-3-5-sonnet-20241022", (1092, 1092), 1_590),
        ("claude-haiku-4-5", (4032, 3024), 1_600),
        ("claude-opus-4-6", (8000, 100), 56),
        ("claude-opus-4-8", (1000, 1000), 1_334),
        ("claude-opus-4-7", (4032, 3024), 4_784),
        ("claude-fable-5", (4032, 3024), 4_784),
    ],
)
def test_anthropic(model: str, size: tuple[int, int], tokens: int) -> None:
    assert media_rules("anthropic", model).image.tokens(size, None) == tokens
    assert media_rules("openrouter", f"anthropic/{model}") == media_rules("anthropic", model)


@each(
    ("kind", "model", "size", "tokens"),
    [
        ("gemini", "gemini-2.5-pro", (384, 300), 258),
        ("gemini", "gemini-2.5-flash", (960, 540), 1_548),  # the example of Google's guide
        ("gemini", "models/gemini-2.5-flash", (960, 540), 1_548),
        ("gemini", "gemini-2.5-flash", (512, 512), 1_032),
        ("gemini", "gemini-2.5-flash", (4000, 100), 4_128),
        ("gemini", "gemini-2.5-flash", (385, 1), 516),
        ("gemini", "gemini-2.0-flash", (3000, 3000), 4_128),
        ("gemini", "gemini-3-pro-preview", (300, 300), 1_120),
        ("mistral", "mistral-small-2506", (1540, 1540), 3_080),
        ("mistral", "mistral-medium-2508", (280, 140), 55),
        ("mistral", "pixtral-12b", (1024, 1024), 4_160),
        ("vllm", "mistralai/Pixtral-12B-2409", (64, 64), 20),
        ("together", "meta-llama/Llama-3.2-11B-Vision-Instruct-Turbo", (559, 559), 1_601),
        ("together", "meta-llama/Llama-3.2-11B-Vision-Instruct-Turbo", (900, 300), 3_202),
        ("fireworks", "accounts/fireworks/models/llama-v3p2-90b-vision-instruct", (900, 900), 6_404),
        ("groq", "meta-llama/llama-4-scout-17b-16e-instruct", (900, 900), 2_500),
        ("fireworks", "accounts/fireworks/models/qwen2p5-vl-32b-instruct", (280, 280), 102),
        ("xai", "grok-4", (448, 448), 1_792),
        ("cohere", "command-a-vision-07-2025", (512, 512), 3_400),
        ("ollama", "gemma3:4b", (4000, 3000), 1_300),
    ],
)
def test_other_vendors(kind: str, model: str, size: tuple[int, int], tokens: int) -> None:
    assert media_rules(kind, model).image.tokens(size, None) == tokens


def test_models_without_a_known_rule_have_an_upper_bound() -> None:
    rules = media_rules("vllm", "my-model")
    assert rules == UNKNOWN
    for kind, model in (("together", "llama-3.2-x"), ("anthropic", "claude-opus-4-8"), ("openai", "gpt-5.5"), ("mistral", "pixtral")):
        other = media_rules(kind, model).image
        for size in ((1, 1), (300, 300), (1024, 1024), (4032, 3024)):
            assert rules.image.tokens(size, None) >= other.tokens(size, None)


def test_seconds_and_pages_have_the_published_rates() -> None:
    gemini, openai = media_rules("gemini", "gemini-2.5-pro"), media_rules("openai", "gpt-4o-audio-preview")
    assert (gemini.audio, gemini.video, gemini.page_tokens()) == (32, 263, 258)
    assert (openai.audio, openai.page_tokens()) == (10, PAGE_TEXT + 1_445)
    assert media_rules("gemini", "gemini-3-pro-preview").page_tokens() == 560
