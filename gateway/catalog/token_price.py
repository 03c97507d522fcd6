"""The price of a model's tokens in nano-dollars, and the cost of a usage. Costs are integers: the cost of each usage is rounded up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from providers.base import Usage

MILLION = 10**6


class TokenPrice(msgspec.Struct, frozen=True):
    """Prices in nano-dollars per million tokens of each kind. A kind without a price costs as much as the kind it is part of."""

    prompt: int
    output: int
    cached: int
    reasoning: int | None = None
    cache_write: int | None = None
    search: int | None = None
    """Price of 1,000 search units. An answer that is billed by search units is not also billed by tokens."""
    cache_write_1h: int | None = None
    """Price of tokens written to the cache for one hour. None means the price of other tokens that are written to the cache."""
    audio_prompt: int | None = None
    image_prompt: int | None = None
    audio_output: int | None = None
    image_output: int | None = None
    steps: tuple[tuple[int, TokenPrice], ...] = ()
    """Prices of longer prompts, shortest first, each with a number of tokens.

    A price applies to the whole usage if the prompt has more tokens.
    """
    tiers: Mapping[str, TokenPrice] = {}
    """Prices of service tiers, by the name that an answer gives. In other tiers, this price applies."""

    def at(self, prompt: int, tier: str = "") -> TokenPrice:
        """Return the price of a usage with this many prompt tokens in a service tier."""
        price = self.tiers.get(tier, self) if tier else self
        for over, step in reversed(price.steps):
            if prompt > over:
                return step
        return price

    def cost(self, prompt: int, output: int, cached: int = 0, tier: str = "") -> int:
        """Return the cost of this many tokens. `cached` is a part of `prompt`."""
        price = self.at(prompt, tier)
        cached = min(max(cached, 0), prompt)
        total = (prompt - cached) * price.prompt + cached * price.cached + output * price.output
        return -(-total // MILLION)

    def max_cost(self, prompt: int, output: int, tier: str = "") -> int:
        """Return the highest possible cost of at most this many tokens.

        If the request names no `tier`, the provider chooses the tier.
        """
        totals = (prompt * price.prompt_bound + output * price.output_bound for price in self._possible(prompt, tier))
        return -(-max(totals) // MILLION)

    def _possible(self, prompt: int, tier: str) -> Iterator[TokenPrice]:
        """Yield the prices that may apply to a call."""
        chosen = self.tiers.values() if not tier else (self.tiers[tier],) if tier in self.tiers else ()
        for price in (self, *chosen):
            yield price
            yield from (step for over, step in price.steps if prompt > over)

    @property
    def prompt_bound(self) -> int:
        """The price of the most expensive kind of prompt tokens."""
        rest = (self.cache_write, self.cache_write_1h, self.audio_prompt, self.image_prompt)
        return max(self.prompt, self.cached, *(price or 0 for price in rest))

    @property
    def output_bound(self) -> int:
        """The price of the most expensive kind of output tokens."""
        return max(self.output, self.reasoning or 0, self.audio_output or 0, self.image_output or 0)

    def search_cost(self, units: int) -> int:
        """Return the cost of search units; 0 if their price is unknown."""
        return -(-units * self.search // 1000) if self.search is not None else 0

    def usage_cost(self, usage: Usage) -> int | None:
        """Return the cost of an answer, by the billed tokens if they are reported.

        Return None if the answer reports only search units and these have no price.

        Negative counts, which some upstreams send, cost nothing.
        """
        if usage.search_units > 0:
            if self.search is not None:
                return self.search_cost(usage.search_units)
            if usage.prompt_tokens <= 0:
                return None
        prompt, output, cached = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
        price = self.at(prompt, usage.service_tier) if self.steps or usage.service_tier else self
        if 0 <= cached <= prompt and output >= 0 and not price._has_rare(usage):  # the usual case
            return -(-((prompt - cached) * price.prompt + cached * price.cached + output * price.output) // MILLION)
        prompt, output = max(0, prompt), max(0, output)
        if usage.billed is not None and not usage.estimated:
            prompt, output = usage.billed
        return -(-(price._prompt_total(prompt, usage) + price._output_total(output, usage)) // MILLION)

    def _has_rare(self, usage: Usage) -> object:
        """Return whether a usage has tokens of other kinds than prompt, cached and output, or separate billed tokens."""
        return (
            usage.cache_write_tokens
            or (usage.reasoning_tokens and self.reasoning is not None)
            or usage.billed is not None
            or usage.audio_prompt_tokens
            or usage.image_prompt_tokens
            or usage.audio_output_tokens
            or usage.image_output_tokens
        )

    def _prompt_total(self, prompt: int, usage: Usage) -> int:
        """Return the cost of the prompt, multiplied by a million.

        If the parts of the prompt add up to more than the prompt, the last parts are reduced.
        """
        cached = min(max(usage.cached_tokens, 0), prompt)
        left, total = prompt - cached, cached * self.cached
        if usage.cache_write_tokens > 0:
            written = min(usage.cache_write_tokens, left)
            hour = min(max(usage.cache_write_1h_tokens, 0), written)
            price = self.prompt if self.cache_write is None else self.cache_write
            total += (written - hour) * price + hour * (price if self.cache_write_1h is None else self.cache_write_1h)
            left -= written
        if usage.audio_prompt_tokens > 0 and self.audio_prompt is not None:
            part = min(usage.audio_prompt_tokens, left)
            left, total = left - part, total + part * self.audio_prompt
        if usage.image_prompt_tokens > 0 and self.image_prompt is not None:
            part = min(usage.image_prompt_tokens, left)
            left, total = left - part, total + part * self.image_prompt
        return total + left * self.prompt

    def _output_total(self, output: int, usage: Usage) -> int:
        """Return the cost of the output, multiplied by a million.

        If the parts of the output add up to more than the output, the last parts are reduced.
        """
        left, total = output, 0
        for count, price in (
            (usage.reasoning_tokens, self.reasoning),
            (usage.audio_output_tokens, self.audio_output),
            (usage.image_output_tokens, self.image_output),
        ):
            if count > 0 and price is not None:
                part = min(count, left)
                left, total = left - part, total + part * price
        return total + left * self.output


FREE = TokenPrice(0, 0, 0)
"""The price of the embedded engine."""
