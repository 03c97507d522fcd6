"""The table of the APIs that callers use, and their paths. server/app.py builds its routes from this table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.dialects.azure import CHAT_PATH, deployment_of
from gateway.dialects.cohere_api.dialect import CohereChatTranslator
from gateway.dialects.cohere_api.embed import NATIVE as EMBED_NATIVE
from gateway.dialects.cohere_api.embed import NATIVE_V1 as EMBED_V1_NATIVE
from gateway.dialects.cohere_api.embed import EmbedTranslator, EmbedV1Translator
from gateway.dialects.cohere_api.native import NATIVE as COHERE_NATIVE
from gateway.dialects.completions import CompletionsApi
from gateway.dialects.dialect import Dialect, PlainDialect, Translator
from gateway.dialects.embeddings import check_embeddings
from gateway.dialects.goodfire import GOODFIRE_PREFIX, GoodfireChat
from gateway.dialects.messages_api.dialect import MESSAGES_PREFIXES, MessagesTranslator
from gateway.dialects.messages_api.native import NATIVE as MESSAGES_NATIVE
from gateway.dialects.rerank import CohereTranslator, FireworksTranslator, RerankTranslator, check_rerank
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.native import NATIVE as RESPONSES_NATIVE

PREFIXES = (
    "/v1", "", "/openai/v1", "/inference/v1", GOODFIRE_PREFIX, "/serverless/v1", "/dedicated/v1",
    "/v1beta/openai", "/openai", "/api/v1", "/compatibility/v1",
)  # fmt: skip
"""Path prefixes that clients use: OpenAI's, none, then those of Groq and Azure, Fireworks, Goodfire, Friendli (two),
Gemini, Azure's older API, OpenRouter and Cohere's OpenAI-compatible API.
"""

CHAT = PlainDialect(
    "chat",
    tuple(f"{prefix}/chat/completions" for prefix in PREFIXES if prefix != GOODFIRE_PREFIX),
    has_messages=True,
    can_continue=True,
)

LOGITS = PlainDialect(
    "logits",
    tuple(f"{prefix}{path}" for prefix in PREFIXES for path in ("/chat/logits", "/chat-attribution/compute-logits")),
    has_messages=False,
    can_continue=False,
)
"""Next-token probabilities; the second path is Goodfire's."""

EMBEDDINGS = PlainDialect(
    "embeddings",
    tuple(f"{prefix}/embeddings" for prefix in PREFIXES),
    has_messages=False,
    can_continue=False,
    check=check_embeddings,
)

FIREWORKS_PREFIX = "/inference/v1"


def _rerank(new_translator: Callable[[], Translator], *prefixes: str) -> PlainDialect:
    """Return the dialect of rerank below these prefixes, with the translator for their format of answers."""
    return PlainDialect(
        "rerank",
        tuple(f"{prefix}/rerank" for prefix in prefixes),
        has_messages=False,
        can_continue=False,
        check=check_rerank,
        new_translator=new_translator,
    )


RERANK = _rerank(RerankTranslator, *(prefix for prefix in PREFIXES if prefix != FIREWORKS_PREFIX))
RERANK_COHERE = _rerank(CohereTranslator, "/v2")
RERANK_FIREWORKS = _rerank(FireworksTranslator, FIREWORKS_PREFIX)

COMPLETIONS = CompletionsApi(tuple(f"{prefix}/completions" for prefix in PREFIXES))

RESPONSES = PlainDialect(
    "chat",
    tuple(f"{prefix}/responses" for prefix in PREFIXES),
    has_messages=True,
    can_continue=True,
    new_translator=ResponsesTranslator,
    native=RESPONSES_NATIVE,
)

MESSAGES = PlainDialect(
    "chat",
    tuple(f"{prefix}/messages" for prefix in MESSAGES_PREFIXES),
    has_messages=True,
    can_continue=True,
    new_translator=MessagesTranslator,
    native=MESSAGES_NATIVE,
)

COHERE_CHAT = PlainDialect(
    "chat",
    ("/v2/chat",),
    has_messages=True,
    can_continue=True,
    new_translator=CohereChatTranslator,
    native=COHERE_NATIVE,
)

COHERE_EMBED = PlainDialect(
    "embeddings",
    ("/v2/embed",),
    has_messages=False,
    can_continue=False,
    check=check_embeddings,
    new_translator=EmbedTranslator,
    native=EMBED_NATIVE,
)
COHERE_EMBED_V1 = PlainDialect(
    "embeddings",
    ("/v1/embed",),
    has_messages=False,
    can_continue=False,
    check=check_embeddings,
    new_translator=EmbedV1Translator,
    native=EMBED_V1_NATIVE,
)

DIALECTS: tuple[Dialect, ...] = (
    CHAT, GoodfireChat(), LOGITS, EMBEDDINGS, COMPLETIONS, MESSAGES, RESPONSES, COHERE_CHAT, COHERE_EMBED, COHERE_EMBED_V1,
    RERANK, RERANK_COHERE, RERANK_FIREWORKS,
)  # fmt: skip


def deployment_api(path: str) -> Dialect | None:
    """Return the API of one of Azure's paths, or None for any other path."""
    if not deployment_of(path):
        return None
    if path.endswith(CHAT_PATH):
        return CHAT
    return EMBEDDINGS if path.endswith("/embeddings") else COMPLETIONS


def call_paths(dialects: Sequence[Dialect]) -> dict[str, Dialect]:
    """Return the dialect of each path."""
    return {path: dialect for dialect in dialects for path in dialect.paths}
