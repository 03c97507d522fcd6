"""Prices of a model's tokens, with steps by prompt length and service tiers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.field_types import Dollars

_Price = Dollars | None


class RatesConfig(Struct, frozen=True, kw_only=True):
    """Prices by kind of token, in USD per million tokens."""

    prompt: Annotated[
        _Price, Meta(description="Price of prompt tokens. Default: the price that applies without this entry.", examples=[5])
    ] = None
    output: Annotated[
        _Price, Meta(description="Price of output tokens. Default: the price that applies without this entry.", examples=[22.5])
    ] = None
    cached: Annotated[
        _Price,
        Meta(
            description="Price of prompt tokens read from the provider's cache. Default: the price that applies without this entry.",
            examples=[0.5],
        ),
    ] = None
    cache_write: Annotated[
        _Price,
        Meta(
            description="Price of prompt tokens written to the provider's cache. Default: the price that applies without this entry.",
            examples=[6.25],
        ),
    ] = None
    cache_write_1h: Annotated[
        _Price,
        Meta(
            description="Price of prompt tokens written to the provider's cache for one hour. Default: the price that applies without "
            "this entry.",
            examples=[10],
        ),
    ] = None
    reasoning: Annotated[
        _Price, Meta(description="Price of reasoning tokens. Default: the price that applies without this entry.", examples=[22.5])
    ] = None
    audio_prompt: Annotated[
        _Price, Meta(description="Price of audio tokens of the prompt. Default: the price that applies without this entry.", examples=[40])
    ] = None
    image_prompt: Annotated[
        _Price, Meta(description="Price of image tokens of the prompt. Default: the price that applies without this entry.", examples=[8])
    ] = None
    audio_output: Annotated[
        _Price, Meta(description="Price of audio tokens of the output. Default: the price that applies without this entry.", examples=[80])
    ] = None
    image_output: Annotated[
        _Price, Meta(description="Price of image tokens of the output. Default: the price that applies without this entry.", examples=[32])
    ] = None


class StepConfig(RatesConfig, frozen=True, kw_only=True):
    """Prices of long prompts. They apply to the whole call."""

    over: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="The prices apply to prompts with more tokens than this.",
            examples=[272_000],
        ),
    ]


class PriceConfig(Struct, frozen=True):
    """Prices of a model, in USD per million tokens."""

    prompt: Annotated[Dollars, Meta(description="Price of prompt tokens.", examples=[2.5])]
    output: Annotated[Dollars, Meta(description="Price of output tokens, including reasoning.", examples=[10])]
    cached: Annotated[
        _Price,
        Meta(description="Price of prompt tokens read from the provider's cache. Default: `prompt`.", examples=[1.25]),
    ] = None
    cache_write: Annotated[
        _Price,
        Meta(
            description="Price of prompt tokens written to the provider's cache. Default: `prompt`.", examples=[3.125]
        ),
    ] = None
    cache_write_1h: Annotated[
        _Price,
        Meta(
            description="Price of prompt tokens written to the provider's cache for one hour. Default: `cache_write`.",
            examples=[5],
        ),
    ] = None
    reasoning: Annotated[_Price, Meta(description="Price of reasoning tokens. Default: `output`.", examples=[10])] = (
        None
    )
    audio_prompt: Annotated[
        _Price, Meta(description="Price of audio tokens of the prompt. Default: `prompt`.", examples=[40])
    ] = None
    image_prompt: Annotated[
        _Price, Meta(description="Price of image tokens of the prompt. Default: `prompt`.", examples=[8])
    ] = None
    audio_output: Annotated[
        _Price, Meta(description="Price of audio tokens of the output. Default: `output`.", examples=[80])
    ] = None
    image_output: Annotated[
        _Price, Meta(description="Price of image tokens of the output. Default: `output`.", examples=[32])
    ] = None
    search: Annotated[
        _Price,
        Meta(description="Price of 1,000 search units, which Cohere bills for rerank instead of tokens.", examples=[2]),
    ] = None
    steps: Annotated[
        tuple[StepConfig, ...],
        Meta(
            description="Prices of long prompts. If there are several steps, the highest one that the prompt exceeds applies.",
            examples=[[{"over": 272_000, "prompt": 5, "output": 22.5}]],
        ),
    ] = ()
    service_tiers: Annotated[
        dict[str, RatesConfig],
        Meta(
            description="Prices of service tiers, by the `service_tier` that an answer names. Default: the vendor's "
            "published discounts (`flex`, `batch`) on these prices.",
            examples=[{"priority": {"prompt": 5, "output": 20}}],
        ),
    ] = {}
