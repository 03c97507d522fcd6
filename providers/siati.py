"""SIATI: strict about unknown fields, alternating turns, JSON objects only.

Facts: its chat completions page, and its wiki (errors, streaming, headers; pages dated 2026-05-19).
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY, SAMPLING
from providers.rules.engine import Takes
from providers.rules.messages import Alternate, DropField, Roles
from providers.rules.pairs import Both
from providers.rules.shapes import Choices, Format, Functions, StreamUsage, ToolChoice, Tools
from providers.rules.values import Cap, Drop, ToHeader
from providers.streams import ChunkRepairs

TIERS = ("slow", "medium", "fast", "ludicrous")


class SiatiSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """SIATI's settings."""

    tier: str | None = None
    """slow, medium, fast or ludicrous, for requests that say nothing; it overrides the key's tier."""

    def __post_init__(self) -> None:
        """Refuse a tier that does not exist."""
        if self.tier is not None and self.tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}")


SIATI = OpenAICompatible(
    "siati",
    Wire(
        label="SIATI",
        base_url="https://api.siati.ai/v1",
        paths={name: PATHS[name] for name in ("chat",)},
        options=SiatiSettings,
        setting_headers=(("tier", "x-siati-tier"),),
        decoder=lambda _: ChunkRepairs((), (b'"error"', b'"status_code"')),
        source="its chat completions page and wiki.siati.ai",
    ),
    (
        *GATEWAY,
        *CONTEXT_POLICY,
        Takes("model messages stream seed stop"),
        Roles(takes=("system", "user", "assistant", "tool")),
        DropField(field="name"),
        Alternate(),
        Cap("max_tokens"),
        *SAMPLING,
        Both("temperature", "top_p", "top_p is meant as an alternative to temperature"),
        Choices(param="n", hint=True),
        Functions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        Format("response_format", ("json_object",)),
        StreamUsage("stream_options", only_streams=False),
        ToHeader("user", "X-Siati-User"),
        ToHeader("siati_tier", "X-Siati-Tier", TIERS),
        ToHeader("service_tier", "X-Siati-Tier", TIERS),
        ToHeader("idempotency_key", "X-Request-Id"),
        Drop("parallel_tool_calls", why="not listed; unknown fields are 400"),
    ),
)
