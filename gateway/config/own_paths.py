"""The paths of the gateway's own APIs, which a pattern of `passthrough` must not cover.

`tests/config/test_own_paths.py` compares these paths with the routes of the server.
"""

from __future__ import annotations

PREFIXES = (
    "", "/v1", "/v2", "/anthropic", "/anthropic/v1", "/openai", "/openai/v1", "/inference/v1", "/api/inference", "/api/inference/v1",
    "/serverless/v1", "/dedicated/v1", "/v1beta/openai", "/api/v1", "/compatibility/v1",
)  # fmt: skip
"""Prefixes that clients put before the paths in APIS."""
APIS = (
    "/chat/completions", "/chat/completions/explain", "/completions", "/embeddings", "/messages", "/messages/count_tokens",
    "/chat/logits", "/chat-attribution/compute-logits", "/responses/*", "/models/*", "/explain", "/key", "/tcp_warming", "/rerank",
    "/tokenize", "/detokenize",
)  # fmt: skip
"""Paths after a prefix. `/*` at the end stands for the path and everything below it."""
OTHERS = ("/openapi.json", "/healthz", "/openai/deployments/*", "/v2/chat", "/v2/embed", "/v1/embed", "/v2/rerank")
"""The paths that are served only as they are, and not after each of the prefixes."""
OWN_PATHS = (*OTHERS, *(f"{prefix}{path}" for prefix in PREFIXES for path in APIS))


def covers(pattern: str, path: str) -> bool:
    """Return whether a pattern covers a path. `/a/*` covers `/a` and everything below it."""
    if not pattern.endswith("/*"):
        return path == pattern
    return path == pattern[:-2] or path.startswith(pattern[:-1])


def own_path_in(pattern: str) -> str | None:
    """Return a path of the gateway's own APIs that the pattern covers, or None."""
    for own in OWN_PATHS:
        if covers(pattern, own.removesuffix("/*")) or covers(own, pattern.removesuffix("/*")):
            return own
    for own in OWN_PATHS:
        explained = f"{own}/explain"
        if not own.endswith("/*") and covers(pattern, explained):
            return explained
    return None
