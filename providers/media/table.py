"""The rules by which vendors count pictures, recordings and documents, as of 2026-11-29. Each row states its source.

The number is the vendor's own where it is published, and otherwise an upper bound, so that a reservation covers the bill.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from providers.media.image_rules import (
    Area,
    CoveringPatches,
    CropTiles,
    DetailPatches,
    DetailTiles,
    Fixed,
    ImageRule,
    PatchRows,
    TwoByTwo,
)

PAGE_TEXT = 3_000
"""Maximum number of text tokens of a page: "1,500-3,000 tokens per page depending on content density" (Anthropic, PDF support)."""


class MediaRules(msgspec.Struct, frozen=True):
    """The tokens of a picture, of a second of sound and of video, and of a page of a document, for some models."""

    image: ImageRule
    source: str
    audio: float = 50.0
    """Tokens per second. Unless published, the rate of Whisper's encoder, the highest of open models."""
    video: float = 300.0
    page: int | None = None
    """None: the text of a page, and the page as a picture."""

    def page_tokens(self) -> int:
        """Return the maximum number of tokens of a page of a document."""
        return self.page if self.page is not None else PAGE_TEXT + self.image.maximum("high")


_OPENAI_GUIDE = "developers.openai.com, Images and vision; "
_AUDIO = 10.0
"""One token for every 100 ms of sound in a user's message (developers.openai.com, Realtime costs)."""
_TILES = _OPENAI_GUIDE + "tile-based models"
_PATCHES = _OPENAI_GUIDE + "patch-based models"
_MEASURED = _PATCHES + "; factor as measured (community.openai.com/t/1377015)"
_OPENAI: tuple[tuple[str, MediaRules], ...] = (
    ("gpt-4o-mini", MediaRules(DetailTiles(2833, 5667), _TILES, _AUDIO)),
    ("gpt-4.1-mini", MediaRules(DetailPatches(1.62), _PATCHES, _AUDIO)),
    ("gpt-4.1-nano", MediaRules(DetailPatches(2.46), _PATCHES, _AUDIO)),
    ("gpt-4", MediaRules(DetailTiles(85, 170), _TILES, _AUDIO)),
    ("chatgpt-4o", MediaRules(DetailTiles(85, 170), _TILES, _AUDIO)),
    ("gpt-audio", MediaRules(DetailTiles(85, 170), _TILES, _AUDIO)),
    ("gpt-5.1-codex-mini", MediaRules(DetailPatches(1.2), _MEASURED, _AUDIO)),
    ("gpt-5.1", MediaRules(DetailTiles(70, 140), _TILES, _AUDIO)),
    ("gpt-5-mini", MediaRules(DetailPatches(1.62), _PATCHES, _AUDIO)),
    ("gpt-5-nano", MediaRules(DetailPatches(2.46), _PATCHES, _AUDIO)),
    ("gpt-5-codex-mini", MediaRules(DetailPatches(1.2), _MEASURED, _AUDIO)),
    ("gpt-5.2", MediaRules(DetailPatches(1.2), _MEASURED, _AUDIO)),
    ("gpt-5.3", MediaRules(DetailPatches(1.2), _MEASURED, _AUDIO)),
    ("gpt-5.4-mini", MediaRules(DetailPatches(1.62), _PATCHES, _AUDIO)),
    ("gpt-5.4-nano", MediaRules(DetailPatches(2.46), _PATCHES, _AUDIO)),
    ("gpt-5.4", MediaRules(DetailPatches(1.2, 2500, 10_000), _MEASURED, _AUDIO)),
    ("gpt-5.", MediaRules(DetailPatches(1.2, 2500, 10_000, True), "huggingface.co/datasets/JOHNISKING/image-token-cost", _AUDIO)),
    ("gpt-5", MediaRules(DetailTiles(70, 140), _TILES, _AUDIO)),
    ("o4-mini", MediaRules(DetailPatches(1.72), _PATCHES, _AUDIO)),
    ("o1", MediaRules(DetailTiles(75, 150), _TILES, _AUDIO)),
    ("o3", MediaRules(DetailTiles(75, 150), _TILES, _AUDIO)),
    ("computer-use-preview", MediaRules(DetailTiles(65, 129), _TILES, _AUDIO)),
    (
        "",
        MediaRules(DetailPatches(1.2, 2500, 16_384, True), "bound; huggingface.co/datasets/JOHNISKING/image-token-cost", _AUDIO),
    ),
)
_CLAUDE = "platform.claude.com, Vision; measured patches: jackin.tailrocks.com/research/token-optimization/42"
_STANDARD = MediaRules(Area(1568, 1600), _CLAUDE)
_ANTHROPIC: tuple[tuple[str, MediaRules], ...] = (
    ("claude-3", _STANDARD),
    ("claude-haiku-4", _STANDARD),
    ("claude-sonnet-4", _STANDARD),
    ("claude-opus-4-7", MediaRules(Area(2576, 4784), _CLAUDE)),
    ("claude-opus-4-8", MediaRules(Area(2576, 4784), _CLAUDE)),
    ("claude-opus-4", _STANDARD),
    ("", MediaRules(Area(2576, 4784), _CLAUDE)),
)
_GOOGLE = "ai.google.dev, Understand and count tokens; Media resolution"
_GOOGLE_TILES = "ai.google.dev, Image understanding, Token calculation (two thirds of the shorter side, 256 to 768 pixels)"
_GEMINI: tuple[tuple[str, MediaRules], ...] = (
    ("gemini-1", MediaRules(Fixed(258), _GOOGLE, 32.0, 263.0, 258)),
    ("gemini-2", MediaRules(CropTiles(768, 256, 258, 16, small=384), _GOOGLE_TILES, 32.0, 263.0, 258)),
    ("gemma", MediaRules(Fixed(1_300), "bound: five crops of 256 tokens (huggingface.co/google/gemma-3-4b-it, preprocessor_config.json)")),
    ("", MediaRules(Fixed(1120), _GOOGLE, 32.0, 263.0, 560)),
)
_MISTRAL_COMMON = "mistralai/mistral-common, tokens/tokenizers/image.py (one token for each patch, one for each row)"
_VOXTRAL = 12.5
"""One token for every 80 ms of sound (scaleway/docs-content, Generative APIs FAQ)."""
_MISTRAL: tuple[tuple[str, MediaRules], ...] = (
    ("pixtral", MediaRules(PatchRows(16, 1024), _MISTRAL_COMMON, _VOXTRAL)),
    ("", MediaRules(PatchRows(28, 1540), _MISTRAL_COMMON, _VOXTRAL)),
)
_XAI: tuple[tuple[str, MediaRules], ...] = (
    ("", MediaRules(Fixed(1_792), "bound: docs.x.ai, Consumption and rate limits (256 to 1,792 tokens, depending on the size)")),
)
_COHERE: tuple[tuple[str, MediaRules], ...] = (
    ("", MediaRules(Fixed(3_400), "bound: 13 tiles of 256 tokens (huggingface/transformers, image_processing_cohere2_vision_fast.py)")),
)
_UNKNOWN_IMAGE = CoveringPatches(28, 6_404, 16_384)
UNKNOWN = MediaRules(_UNKNOWN_IMAGE, "bound: the most that any row of this table counts for an image of the same size, except gpt-4o-mini")
_QWEN = MediaRules(CoveringPatches(28, 4, 16_384), "huggingface.co/Qwen/Qwen2-VL-7B-Instruct/discussions/47 (28 pixels, 4-16384)")
# Models that several vendors and engines run, by a part of their name. The first row that matches applies.
_OPEN_MODELS: tuple[tuple[str, MediaRules], ...] = (
    ("llama-3.2", MediaRules(TwoByTwo(560, 1601), "docs.together.ai, Vision")),
    ("llama-v3p2", MediaRules(TwoByTwo(560, 1601), "docs.together.ai, Vision")),
    ("llama3.2", MediaRules(TwoByTwo(560, 1601), "docs.together.ai, Vision")),
    ("llama-4", MediaRules(Fixed(2_500), "bound: 17 tiles of 144 tokens (huggingface/transformers, processing_llama4.py)")),
    ("llama4", MediaRules(Fixed(2_500), "bound: 17 tiles of 144 tokens (huggingface/transformers, processing_llama4.py)")),
    ("qwen", _QWEN),
    ("pixtral", _MISTRAL[0][1]),
    ("mistral", _MISTRAL[1][1]),
    ("magistral", _MISTRAL[1][1]),
    ("voxtral", _MISTRAL[1][1]),
    ("gemma", _GEMINI[2][1]),
)
_VENDORS = {
    "openai": _OPENAI, "azure": _OPENAI, "anthropic": _ANTHROPIC, "gemini": _GEMINI, "google": _GEMINI,
    "mistral": _MISTRAL, "mistralai": _MISTRAL, "xai": _XAI, "x-ai": _XAI, "cohere": _COHERE,
}  # fmt: skip
"""The rows of each provider type and of each vendor's name in OpenRouter's model names, by prefix of the model."""


def listed_rules() -> Iterator[tuple[str, str, MediaRules]]:
    """Yield the provider type, the beginning of the model's name or a part of it, and the rules, for documentation."""
    for vendor in ("openai", "anthropic", "gemini", "mistral", "xai", "cohere"):
        for prefix, rules in _VENDORS[vendor]:
            yield vendor, f"`{prefix}…`" if prefix else "others", rules
    for part, rules in _OPEN_MODELS:
        yield "other providers", f"`…{part}…`", rules
    yield "other providers", "others", UNKNOWN


@lru_cache(4096)
def media_rules(kind: str, model: str) -> MediaRules:
    """Return the rules for a model at a provider of type `kind`."""
    model = model.removeprefix("models/")  # Gemini accepts names with this prefix
    vendor, _, rest = model.partition("/")
    rows = _VENDORS.get(kind)
    if rows is None and kind == "openrouter" and rest:
        rows, model = _VENDORS.get(vendor.lower()), rest
    if rows is not None:
        model = model.removeprefix("ft:")  # OpenAI's fine-tuned models: "ft:gpt-4o-mini-2024-07-18:acme::id"
        return next(rules for prefix, rules in rows if model.startswith(prefix))
    name = model.lower()
    return next((rules for part, rules in _OPEN_MODELS if part in name), UNKNOWN)
