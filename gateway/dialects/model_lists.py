"""Lists of models in the formats of Mistral's and Cohere's clients, which request the same path as OpenAI's clients.

Sources: mistralai 3.7.0 (ModelList, BaseModelCard), cohere 7.3.1 (ListModelsResponse, GetModelResponse).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.errors import Headers

Entry = Mapping[str, Any]
"""A model in OpenAI's format."""


def _of_mistral(entry: Entry) -> dict[str, Any]:
    """Return an entry with the fields that Mistral's package requires. The package ignores the other fields."""
    window = {"max_context_length": entry["context_window"]} if "context_window" in entry else {}
    return {**entry, "type": "base", "capabilities": {"completion_chat": True}, **window}


def _of_cohere(entry: Entry) -> dict[str, Any]:
    window = {"context_length": entry["context_window"]} if "context_window" in entry else {}
    return {"name": entry["id"], "endpoints": ["chat"], "finetuned": False, **window}


def model_form(headers: Headers) -> Callable[[Entry], dict[str, Any]]:
    """Return the function that converts an entry to the format of a client. A request header names the client."""
    for name, value in headers:
        if name == b"user-agent" and value.startswith(b"mistral-client-"):
            return _of_mistral
        if name == b"x-fern-sdk-name" and value.startswith(b"cohere"):
            return _of_cohere
    return dict


def model_list(headers: Headers, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return a list of models in the format of the client that sent these headers."""
    form = model_form(headers)
    models = [form(entry) for entry in entries]
    return {"models": models} if form is _of_cohere else {"object": "list", "data": models}
