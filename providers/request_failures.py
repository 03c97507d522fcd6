"""The kinds of 4xx errors about one request: its model, its path, its size, its content, or something else.

Another target may answer some of these requests, so they have kinds of their own. The sources, read on 2026-11-29, are errors
that users quote in issues, unless a line states another source.

    model     OpenAI, Groq, xAI: 404 "The model `x` does not exist or you do not have access to it" (continuedev/continue#10832);
              OpenAI: 400 with the same code (skorokithakis/sysaidmin#9); Gemini: "models/x is not found for API version v1beta"
              (use-agent-os/agent-os#1361); Anthropic: not_found_error "model: x" (use-agent-os/agent-os#2234); Groq: 400
              model_decommissioned (cooneycw/claude-power-pack#328); OpenRouter: 400 "x is not a valid model ID"
              (continuedev/continue#10758); DeepSeek: 400 "Model Not Exist" (deepwn/addi#13)
    path      OpenAI: "Invalid URL (POST /v1/v1/chat/completions)" (chatboxai/chatbox#199) and code unknown_url
              (artificial-julien/docker-nginx-openai-api-cache#2); FastAPI: {"detail": "Not Found"}; Go: "404 page not found"
    content   Azure: code content_filter, "content management policy" (BerriAI/litellm#16231); Alibaba: DataInspectionFailed
              (QwenLM/qwen-code#3271); xAI: 403 "Content violates usage guidelines" (theopenco/llmgateway#1785); Anthropic: "Output
              blocked by content filtering policy" (anthropics/claude-code#6195); the codes of policies are those of openai 3.57.0
"""

from __future__ import annotations

import re

from providers.base import FailureKind

CONTENT_STATUSES = frozenset({400, 403, 422, 451, 500})
MODEL_STATUSES = frozenset({400, 404, 410, 422})
_MODEL_CODES = frozenset({"model_not_found", "model_decommissioned", "invalid_model", "DeploymentNotFound"})
_CONTENT_CODES = frozenset({
    "content_filter", "content_policy_violation", "moderation_blocked", "data_inspection_failed", "ResponsibleAIPolicyViolation",
    "image_content_policy_violation", "misalignment_policy_violation", "bio_policy",
})  # fmt: skip
_NAME = r"[\s:/]+(?:id\s+)?[`'\"]?[\w./:@+-]*[`'\"]?\s+(?:(?:is|was|has|does|do|been|currently)\s+)*"
_NO_MODEL = re.compile(
    rf"\b(?:models?|deployment){_NAME}(?:not\s+(?:exist|found|available|deployed)|decommissioned|deprecated|retired|no longer)"
    r"|\bmodel not (?:exist|found)|is not a valid model|\binvalid model\b|\bunknown model\b|\bno such model\b|^model:\s*\S+$"
    r"|model identifier is invalid|unable to access model|no endpoints found for\b",
    re.IGNORECASE,
)
_NO_PATH = re.compile(
    r"^(?:404[\s:]*)?(?:page |resource |url |path |route )?not[ _]found[.!]?$|invalid url\b|unknown request url|cannot (?:post|get) /"
    r"|no route matched|the upstream answered HTTP 404",
    re.IGNORECASE,
)
_CONTENT = re.compile(
    r"content management policy|content filter(?:ing)? polic|blocked by (?:the |our |a )?content filter|content exists risk"
    r"|data_?inspection_?failed|inappropriate content|violat\w+ (?:[\w']+ ){0,3}(?:guidelines|polic(?:y|ies)|terms)"
    r"|flagged (?:as|by|for)|(?:was|were|been|is) flagged|requires moderation|blocked by (?:[\w']+ ){0,2}moderation",
    re.IGNORECASE,
)


_OF_NGINX = {
    b"No required SSL certificate was sent": "the upstream requires a client certificate; set the provider's client_certificate",
    b"The SSL certificate error": "the upstream rejected the client certificate",
    b"The plain HTTP request was sent to HTTPS port": "the upstream expects TLS; the provider's base_url must begin with https",
}
"""Pages with status 400 about the connection, which nginx sends after the handshake (ngx_http_special_response.c, 495 to 497)."""


def connection_fault(status: int, body: bytes) -> str | None:
    """Return the fault of the gateway's connection that a proxy in front of the upstream reports, or None."""
    if status != 400 or body[:1] != b"<":
        return None
    return next((text for words, text in _OF_NGINX.items() if words in body), None)


def is_content_refusal(status: int, words: set[str | None], message: str) -> bool:
    """Return whether a content filter refused the request. `words` are the error's code and type."""
    return status in CONTENT_STATUSES and (bool(words & _CONTENT_CODES) or _CONTENT.search(message) is not None)


def is_missing_model(status: int, words: set[str | None], message: str) -> bool:
    """Return whether the upstream does not have the model, or no longer has it."""
    if status not in MODEL_STATUSES:
        return False
    return bool(words & _MODEL_CODES) or _NO_MODEL.search(message) is not None


def kind_of_request_failure(
    status: int, words: set[str | None], param: str | None, message: str, *, is_object: bool
) -> FailureKind:
    """Return the kind of a 4xx that is neither about the credential nor about a limit.

    `is_object` is true if the body was an error object. A 404 about a parameter concerns something that the request
    refers to, such as a file.
    """
    if is_content_refusal(status, words, message):
        return "content_filter"
    if is_missing_model(status, words, message):
        return "model_not_found"
    if status == 413:
        return "request_too_large"
    if status != 404 or param not in (None, "model"):
        return "client_error"
    if "unknown_url" in words or not is_object or _NO_PATH.search(message) is not None:
        return "path_not_found"
    return "not_found"
