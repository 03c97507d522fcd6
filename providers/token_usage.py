"""The tokens of one answer, as a provider reports them or as the gateway estimates them."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer. `estimated` is True if the provider did not report them.

    Cached, written, audio and image tokens of the prompt are parts of `prompt_tokens`. Reasoning, audio and image tokens
    of the output are parts of `completion_tokens`.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0  # prompt tokens written to the provider's cache, which may cost more
    search_units: int = 0  # billed by Cohere for rerank
    reported_cost: int | None = None  # in nano-dollars; used only if the target's `reports_cost` is true
    cache_write_1h_tokens: int = 0  # the part of `cache_write_tokens` that is kept for an hour
    audio_prompt_tokens: int = 0
    image_prompt_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    service_tier: str = ""  # the tier that the answer names, such as `priority`; it may have its own price
    unsplit_tokens: int = 0  # a total without parts: the other counts are then 0
    is_unbilled: bool = False  # True if the provider charges nothing for these tokens
    billed: tuple[int, int] | None = None
    """Billed tokens of prompt and output, if the provider reports them in addition to the processed ones, as Cohere does."""
    parts: tuple[Usage, ...] = ()
    """The usage of each request, if this usage is the sum of several: a price that depends on the length applies to each."""

    def plus(self, other: Usage) -> Usage:
        """Return the sum, which is an estimate if either usage is an estimate."""
        parts = (*(self.parts or (self,)), *(other.parts or (other,)))
        known = tuple(part for part in parts if part.is_counted)
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
            self.cache_write_tokens + other.cache_write_tokens,
            self.search_units + other.search_units,
            known[0].reported_cost if len(known) == 1 else None,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.audio_prompt_tokens + other.audio_prompt_tokens,
            self.image_prompt_tokens + other.image_prompt_tokens,
            self.audio_output_tokens + other.audio_output_tokens,
            self.image_output_tokens + other.image_output_tokens,
            self.service_tier if self.service_tier == other.service_tier else self.service_tier or other.service_tier,
            self.unsplit_tokens + other.unsplit_tokens,
            billed=self._billed_with(other) if self.billed or other.billed else None,
            parts=known if len(known) > 1 else (),
        )

    def _billed_with(self, other: Usage) -> tuple[int, int]:
        (prompt, output), (more_prompt, more_output) = (
            each.billed or (each.prompt_tokens, each.completion_tokens) for each in (self, other)
        )
        return prompt + more_prompt, output + more_output

    @property
    def is_counted(self) -> bool:
        """Whether anything was counted."""
        return bool(self.prompt_tokens or self.completion_tokens or self.search_units or self.unsplit_tokens or self.reported_cost)

    def estimate(self, prompt: int, output: int) -> Usage:
        """Return this usage with estimated counts of prompt and output, without the cost that was reported for other counts."""
        return msgspec.structs.replace(
            self, prompt_tokens=prompt, completion_tokens=output, estimated=True, unsplit_tokens=0, parts=(), reported_cost=None
        )

    def as_record(self) -> dict[str, int | bool | str]:
        """Return the counts as receipts and log lines show them. Rare counts are included only if they are not 0."""
        record: dict[str, int | bool | str] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "estimated": self.estimated,
        }
        return record | {name: value for name in _RARE if (value := getattr(self, name))}


_RARE = (
    "cache_write_tokens", "cache_write_1h_tokens", "audio_prompt_tokens", "image_prompt_tokens", "audio_output_tokens",
    "image_output_tokens", "search_units", "service_tier",
)  # fmt: skip
