"""SIATI: rejects unknown fields, requires alternating turns, and supports json_object but not json_schema.

Sources: the vendor's chat completions page, and its wiki (errors, streaming, headers; pages dated 2026-05-19).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from providers.openai_compatible import PATHS, OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES, SAMPLING
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import AlternateRoles, Roles
from providers.rules.names import OutputCap
from providers.rules.pairs import Discouraged
from providers.rules.rule import Accepts
from providers.rules.shapes import Choices, ResponseFormat, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, MoveToHeader

TIERS = ("slow", "medium", "fast", "ludicrous")


class SiatiSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of SIATI."""

    tier: Annotated[
        str | None,
        Meta(
            description="Default tier: `slow`, `medium`, `fast` or `ludicrous`. Overrides the tier of the credential.",
            examples=["fast"],
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse an unknown tier."""
        if self.tier is not None and self.tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}")


SIATI = OpenAICompatible(
    "siati",
    Wire(
        label="SIATI",
        base_url="https://api.siati.ai/v1",
        paths={name: PATHS[name] for name in ("chat", "embeddings")},
        options=SiatiSettings,
        setting_headers=(("tier", "x-siati-tier"),),
        source="SIATI's chat completions page and wiki.siati.ai",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream seed stop"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        AlternateRoles(),
        OutputCap("max_tokens"),
        *SAMPLING,
        Discouraged("temperature", "top_p", "top_p is meant as an alternative to temperature"),
        Choices(param="n", best_effort_seed=True),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format", ("json_object",)),
        StreamUsage("stream_options", only_streams=False),
        MoveToHeader("user", "X-Siati-User"),
        MoveToHeader("siati_tier", "X-Siati-Tier", TIERS),
        MoveToHeader("service_tier", "X-Siati-Tier", TIERS),
        MoveToHeader("idempotency_key", "X-Request-Id"),
        Drop("parallel_tool_calls", why="not documented; unknown fields are rejected"),
    ),
    {
        "embeddings": (
            MoveToHeader("user", "X-Siati-User"),
            MoveToHeader("siati_tier", "X-Siati-Tier", TIERS),
            MoveToHeader("service_tier", "X-Siati-Tier", TIERS),
            MoveToHeader("idempotency_key", "X-Request-Id"),
        )
    },
)
