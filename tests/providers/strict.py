"""A strict server for each provider: it rejects everything that the provider's documentation does not allow.

Its facts are in tests/fixtures, taken from the providers' pages and packages. It shares nothing with the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.providers.cases import read_fixture
from tests.providers.server import Reply, Request, json_reply
from tests.providers.wires import good_reply

MATRIX_NAMES = {"azure": "azure_openai", "gemini": "gemini_openai"}
CREDENTIAL = "KEY"
Facts = dict[str, Any]


@cache
def _matrix() -> Facts:
    result: Facts = read_fixture("parameters.yaml")["parameters"]
    return result


@cache
def facts_of(server: str) -> Facts:
    """Return the facts of one server: its fields with their bounds, and the facts that parameters.yaml cannot express."""
    extra: Facts = read_fixture("strict-servers.yaml")[server]
    bounds: dict[str, Facts] = {"model": {}, "messages": {}, "stream": {}}
    for canonical, row in _matrix().items():
        cell = row["providers"].get(MATRIX_NAMES.get(server, server))
        native = (cell or {}).get("native") or ""
        if not native or native.startswith(("header:", "messages[")) or cell["supported"] == "no":
            continue
        field = re.split(r"[.=\[]", native)[0]
        plain = native == field and (canonical == field or field not in bounds)
        limits = {name: cell[name] for name in ("min", "max", "max_items") if plain and cell.get(name) is not None}
        bounds.setdefault(field, {}).update(limits)
    for field in extra.get("fields", ()):
        bounds.setdefault(field, {})
    for field in extra.get("absent", ()):
        bounds.pop(field, None)
    return {**extra, "bounds": bounds}


def objections(server: str, body: Facts) -> Iterator[tuple[str, str]]:
    """Yield field and reason of each violation in a body."""
    facts = facts_of(server)
    yield from _fields(facts, body)
    yield from _values(facts, body)
    yield from _combinations(facts, body)
    yield from _messages(facts, body.get("messages") or [])


def _fields(facts: Facts, body: Facts) -> Iterator[tuple[str, str]]:
    bounds = facts["bounds"]
    for field in body:
        if field not in bounds and facts.get("unknown") != "ignore":
            yield field, "Unknown field"
        if field in facts.get("refused", ()):
            yield field, "not supported by this model"
    for field in facts.get("required", ()):
        if body.get(field) is None:
            yield field, "Field required"


def _values(facts: Facts, body: Facts) -> Iterator[tuple[str, str]]:
    for field, value in body.items():
        limits = facts["bounds"].get(field, {})
        numbers = value.values() if field == "logit_bias" else [value]
        for number in numbers:
            if type(number) in (int, float) and not limits.get("min", number) <= number <= limits.get("max", number):
                if number == -1 and field in ("min_tokens", "min_completion_tokens"):
                    continue
                yield field, f"{number} is out of range"
        if isinstance(value, list) and len(value) > min(limits.get("max_items", 9999), facts.get("max", {}).get(field, 9999)):
            yield field, "too many entries"
        if field in facts.get("values", {}) and value not in facts["values"][field] and not isinstance(value, dict):
            yield field, f"{value!r} is not one of {facts['values'][field]}"
        if field in facts.get("lists", ()) and not isinstance(value, list):
            yield field, "must be a list"
        if field in facts.get("nonempty", ()) and not value:
            yield field, "must not be empty"
        if field in facts.get("integers", ()) and type(value) is not int:
            yield field, "must be an integer"
        if field == "seed" and isinstance(value, list) and "seed_list" not in facts["bounds"] and not facts.get("lists"):
            yield field, "must be an integer"
    kind = (body.get("response_format") or {}).get("type", "text")
    if "response_format" in body and kind not in facts.get("formats", [kind]):
        yield "response_format", f"{kind} is not supported"


def _combinations(facts: Facts, body: Facts) -> Iterator[tuple[str, str]]:
    for one, other in facts.get("exclusive", ()):
        if body.get(one) is not None and body.get(other) is not None:
            yield one, f"cannot be used together with {other}"
    for field, other in facts.get("needs", {}).items():
        if body.get(field) and not body.get(other):
            yield field, f"requires {other}"
    for field in facts.get("streams_only", ()):
        if field in body and body.get("stream") is not True:
            yield field, "only with stream"


def _messages(facts: Facts, messages: list[Facts]) -> Iterator[tuple[str, str]]:
    last = None
    for index, message in enumerate(messages):
        role = message["role"]
        if role not in facts.get("roles", [role]):
            yield f"messages[{index}].role", f"{role} is not a role"
        calls = bool(message.get("tool_calls"))
        if role in facts.get("string_content", ()) and not isinstance(message.get("content"), str) and not calls:
            yield f"messages[{index}].content", "must be a string"
        if facts.get("nameless") and "name" in message:
            yield f"messages[{index}].name", "is not supported"
        if facts.get("alternate") and role == last and role in ("user", "assistant") and not calls:
            yield f"messages[{index}].role", "roles must alternate"
        last = role


def refusal(server: str, status: int, param: str | None, message: str) -> Reply:
    """Return an error in the server's own shape."""
    shape = facts_of(server).get("errors", "openai")
    words = f"{message}: {param}" if param else message
    if shape == "text":
        return Reply(status, words.encode(), "text/plain")
    if shape == "google":
        kind = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
        return json_reply([{"error": {"code": status, "message": words, "status": kind}}], status)
    if shape == "anthropic":
        kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}.get(status, "api_error")
        return json_reply({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}, status)
    if shape == "cohere":
        return json_reply({"id": "e1", "message": words}, status)
    if shape == "fastapi":
        detail = [{"loc": ["body", param], "msg": message, "type": "extra_forbidden"}]
        return json_reply({"detail": detail} if status in (400, 422) else {"message": words}, 422 if status == 400 else status)
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}.get(status, "server_error")
    return json_reply({"error": {"message": words, "type": kind, "param": param, "code": None}}, status)


def strict_reply(server: str, kind: str, request: Request) -> Reply:
    """Return an error for the first violation, or a successful reply."""
    header = facts_of(server).get("auth", "authorization")
    if request.headers.get(header) not in (CREDENTIAL, f"Bearer {CREDENTIAL}"):
        return refusal(server, 401, None, "Unauthorized")
    for param, why in objections(server, request.body):
        return refusal(server, 400, param, why)
    return good_reply(kind, request)
