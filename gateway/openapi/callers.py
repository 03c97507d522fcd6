"""The operations of the callers' listener.

The paths of each API come from gateway.dialects.table. `APIS` and `REQUESTS` add titles and the schemas of bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from gateway.dialects.azure import DEPLOYMENTS, ENDINGS
from gateway.dialects.described import Schema
from gateway.dialects.dialect import Dialect
from gateway.dialects.messages_api.dialect import MESSAGES_PREFIXES
from gateway.dialects.messages_api.models import MAX_LIMIT
from gateway.dialects.responses_api.stored import MAX_PAGE
from gateway.dialects.table import (
    CHAT,
    COHERE_CHAT,
    COHERE_EMBED,
    COHERE_EMBED_V1,
    COMPLETIONS,
    DIALECTS,
    EMBEDDINGS,
    LOGITS,
    MESSAGES,
    PREFIXES,
    RERANK,
    RERANK_COHERE,
    RERANK_FIREWORKS,
    RESPONSES,
    deployment_api,
)
from gateway.openapi import errors, headers, requests

DEPLOYMENT = f"{DEPLOYMENTS}{{name}}"
"""The prefix of Azure's paths, which name the model."""
PREFIXES_OF_ALL = tuple(sorted({*PREFIXES, *MESSAGES_PREFIXES, DEPLOYMENT}, key=len, reverse=True))


class Api(NamedTuple):
    """The description of an API: its title, and the schemas of its answers, events and errors."""

    title: str
    name: str
    """The component with the schema of the answer. It is also the key of the request's schema in `REQUESTS`."""
    stream: str = ""
    """The events of a stream, in words; "" if answers are not streamed."""
    form: str = "Error"
    """The form of the errors: a key of `errors._FORMS`."""


APIS: Mapping[Dialect, Api] = {
    CHAT: Api("Chat completion", "ChatCompletion", "chat.completion.chunk objects, then [DONE]"),
    LOGITS: Api("Next-token probabilities", "Logits"),
    EMBEDDINGS: Api("Embeddings", "Embeddings"),
    COMPLETIONS: Api("Text completion", "TextCompletion", "text_completion objects, then [DONE]"),
    MESSAGES: Api("Message", "Message", "Anthropic's events, from message_start to message_stop", "Either"),
    RERANK: Api("Ranking of documents", "Rerank"),
    RERANK_FIREWORKS: Api("Ranking of documents", "Rerank"),
    COHERE_CHAT: Api("Chat, as in Cohere's v2", "CohereChat", "Cohere's events, from message-start to message-end, then [DONE]", "Cohere"),
    COHERE_EMBED: Api("Embeddings, as in Cohere's v2", "CohereEmbed", form="Cohere"),
    COHERE_EMBED_V1: Api("Embeddings, as in Cohere's v1", "CohereEmbed", form="Cohere"),
    RERANK_COHERE: Api("Ranking of documents, as in Cohere's v2", "RerankV2", form="Cohere"),
    RESPONSES: Api("Response", "Response", "OpenAI's events, from response.created to response.completed"),
}


REQUESTS: Mapping[str, Callable[[], Schema]] = {
    "ChatCompletion": requests.chat,
    "Logits": requests.logits,
    "Embeddings": requests.embedding_inputs,
    "TextCompletion": requests.text_completions,
    "Rerank": requests.ranking,
    "RerankV2": requests.ranking,
    "Message": requests.messages,
    "CohereChat": requests.cohere_chat,
    "CohereEmbed": requests.cohere_embed,
    "Response": requests.responses,
    "MessageTokens": partial(requests.messages, counts=True),
    "Tokens": requests.tokenize,
    "TextOfTokens": requests.detokenize,
    "Json": requests.any_model,
}
"""The schemas of requests, by the component of their answer."""


def schemas() -> dict[str, Schema]:
    """Return the components of requests."""
    return {f"{name}Request": make() for name, make in REQUESTS.items()}


def api_of(dialect: Dialect) -> Api:
    """Return the description of a dialect.

    A dialect without an entry in `APIS` is described as `CHAT` if its calls are chats, else by arbitrary JSON objects.
    """
    if dialect in APIS:
        return APIS[dialect]
    if dialect.operation == "chat":
        return APIS[CHAT]
    return Api(dialect.operation.capitalize(), "Json")


def split(path: str) -> tuple[str, str]:
    """Return the known prefix of a path, and the rest of the path."""
    prefix = next(prefix for prefix in PREFIXES_OF_ALL if path.startswith(prefix + "/"))
    return prefix, path[len(prefix) :]


class Paths:
    """Collects operations under paths without their prefixes, and the prefixes of each path."""

    def __init__(self) -> None:
        self.operations: dict[str, dict[str, Any]] = {}
        self.prefixes: dict[str, list[str]] = {}

    def add(self, paths: Iterable[str], method: str, operation: dict[str, Any]) -> None:
        """Add an operation at these paths. If a path already has an operation for this method, the existing operation is kept."""
        for path in paths:
            prefix, rest = split(path)
            self.operations.setdefault(rest, {}).setdefault(method, {**operation, "operationId": _id(method, rest)})
            if prefix not in self.prefixes.setdefault(rest, []):
                self.prefixes[rest].append(prefix)


def _id(method: str, path: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in path).split()
    return "_".join([method, *words])


def operations(dialects: Iterable[Dialect] = DIALECTS) -> Paths:
    """Return the operations of the callers' listener."""
    paths, dialects = Paths(), tuple(dialects)
    for dialect in dialects:
        api = api_of(dialect)
        paths.add(_with_deployment(dialect), "post", _call(api))
    for dialect in dialects:
        explained = [f"{path}/explain" for path in _with_deployment(dialect)]
        paths.add(explained, "post", _planned(f"Explain: {api_of(dialect).title.lower()}", api_of(dialect).name))
    paths.add(_below(PREFIXES, "/explain"), "post", _planned("Explain: chat completion", "ChatCompletion"))
    count = "Count the tokens of a prompt"
    of_messages = _planned(count, "MessageTokens", "MessageTokens")
    paths.add(_below(MESSAGES_PREFIXES, "/messages/count_tokens"), "post", of_messages)
    paths.add(_below(PREFIXES, "/responses/input_tokens"), "post", _planned(count, "Response", "InputTokens"))
    paths.add(_below(PREFIXES, "/tokenize"), "post", _planned("Tokens of messages or of a text", "Tokens", "Tokens"))
    paths.add(_below(PREFIXES, "/detokenize"), "post", _planned("Text of tokens", "TextOfTokens", "TextOfTokens"))
    both = (*PREFIXES, *(prefix for prefix in MESSAGES_PREFIXES if prefix not in PREFIXES))
    paths.add(_below(both, "/models"), "get", _models())
    paths.add(_below(both, "/models/{name}"), "get", _model())
    for path, method, operation in _stored():
        paths.add(_below(PREFIXES, f"/responses/{{id}}{path}"), method, operation)
    paths.add(_below(PREFIXES, "/key"), "get", _read("The key of this request", "OwnKey", errors.KEYED))
    paths.add(
        _below(PREFIXES, "/tcp_warming"), "get", {**_read("Open a connection", "Status", errors.ANY), "security": [{}]}
    )
    document = _read("This document, if callers.openapi is true", "Json", errors.KEYED)
    paths.add(["/openapi.json"], "get", document)
    health = {**_read("Whether the process responds, if callers.health is true", "Status", errors.ANY), "security": [{}]}
    paths.add(["/healthz"], "get", health)
    return paths


def _with_deployment(dialect: Dialect) -> list[str]:
    """Return the paths of an API, with Azure's path if it has one."""
    return [*dialect.paths, *(f"{DEPLOYMENT}{end}" for end in ENDINGS if deployment_api(f"{DEPLOYMENT}{end}") is dialect)]


def _below(prefixes: Iterable[str], path: str) -> list[str]:
    return [prefix + path for prefix in prefixes]


def _body(name: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{name}Request"}}
    return {"required": True, "content": {"application/json": reference}}


def _call(api: Api) -> dict[str, Any]:
    """Return the operation of a model call."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{api.name}"}}}
    if api.stream:
        content["text/event-stream"] = {"schema": _event(api.stream)}
    answer = {"description": api.title, "content": content}
    answer["headers"] = headers.of_answer(is_messages=api.form == "Either", streams=bool(api.stream))
    return {
        "summary": api.title,
        "tags": ["calls"],
        "parameters": _parameters(),
        "requestBody": _body(api.name),
        "responses": {"200": answer, **errors.responses(errors.CALL, api.form, is_call=True)},
    }


def _event(what: str) -> Schema:
    """Return the schema of each event of a stream."""
    text: Schema = {"type": "string"}
    description = f"An event of a stream (`stream: true`): {what}."
    return {
        "type": "object",
        "description": description,
        "properties": {"event": text, "data": text},
        "required": ["data"],
    }


def _parameters() -> list[dict[str, str]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in headers.REQUEST]


def _read(title: str, answer: str, failures: Iterable[int], form: str = "Either") -> dict[str, Any]:
    """Return an operation that calls no model."""
    schema = {"$ref": f"#/components/schemas/{answer}"}
    success = {
        "description": title,
        "headers": headers.of_other_answer(may_be_messages=form == "Either"),
        "content": {"application/json": {"schema": schema}},
    }
    return {"summary": title, "tags": ["models"], "responses": {"200": success, **errors.responses(failures, form)}}


def _planned(title: str, body: str, answer: str = "Plan") -> dict[str, Any]:
    """Return an operation that plans a call, or that counts or converts tokens."""
    operation = _read(title, answer, errors.READ)
    return {**operation, "tags": ["plans"], "parameters": _parameters(), "requestBody": _body(body)}


def _either_form(operation: dict[str, Any], ours: str, theirs: str) -> dict[str, Any]:
    """Let an answer also have the form of the Messages API."""
    forms = [{"$ref": f"#/components/schemas/{name}"} for name in (ours, theirs)]
    operation["responses"]["200"]["content"]["application/json"]["schema"] = {"anyOf": forms}
    version = {
        "name": "anthropic-version",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Answer in the form of the Messages API.",
    }
    return {**operation, "parameters": [version]}


def _models() -> dict[str, Any]:
    operation = _either_form(_read("The models of this key", "Models", errors.KEYED), "Models", "MessagesModels")
    number = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}
    pages: dict[str, Schema] = {"limit": number, "after_id": {"type": "string"}, "before_id": {"type": "string"}}
    note = "In the form of the Messages API only."
    operation["parameters"] += [{**parameter, "description": note} for parameter in _query(**pages)]
    return operation


def _query(**schemas: Schema) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()]


def _stored() -> list[tuple[str, str, dict[str, Any]]]:
    """Return the operations on stored responses, as (path below `/responses/{id}`, method, operation)."""
    named = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    page: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
    pages = _query(limit=page, order={"type": "string", "enum": ["asc", "desc"]}, after={"type": "string"})
    operations: tuple[tuple[str, str, dict[str, Any], list[dict[str, Any]]], ...] = (
        ("", "get", _read("A stored response", "Response", errors.KEYED), _query(stream={"type": "string"})),
        ("", "delete", _read("Delete a stored response", "DeletedResponse", errors.KEYED), []),
        ("/input_items", "get", _read("The input items of a stored response", "InputItems", errors.KEYED), pages),
    )
    return [
        (path, method, {**operation, "parameters": [*named, *more]}) for path, method, operation, more in operations
    ]


def _model() -> dict[str, Any]:
    operation = _either_form(
        _read("One model, with the parameters that its targets honour", "Model", errors.KEYED), "Model", "MessagesModel"
    )
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "May contain slashes.",
    }
    return {**operation, "parameters": [name, *operation["parameters"]]}
