"""Lists of models as the packages of Mistral and Cohere read them. They request the same path as OpenAI's.

Sources: mistralai 3.7.0 (ModelList, BaseModelCard), cohere 7.3.1 (ListModelsResponse, GetModelResponse).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.errors import Headers

Entry = Mapping[str, Any]
"""A model in OpenAI's form."""


def _of_mistral(entry: Entry) -> dict[str, Any]:
    """Return an entry with the fields that Mistral's package requires. It ignores unknown fields."""
    window = {"max_context_length": entry["context_window"]} if "context_window" in entry else {}
    return {**entry, "type": "base", "capabilities": {"completion_chat": True}, **window}


def _of_cohere(entry: Entry) -> dict[str, Any]:
    window = {"context_length": entry["context_window"]} if "context_window" in entry else {}
    return {"name": entry["id"], "endpoints": ["chat"], "finetuned": False, **window}


def model_form(headers: Headers) -> Callable[[Entry], dict[str, Any]]:
    """Return what gives a model the form that a client expects, by the header with its name."""
    for name, value in headers:
        if name == b"user-agent" and value.startswith(b"mistral-client-"):
            return _of_mistral
        if name == b"x-fern-sdk-name" and value.startswith(b"cohere"):
            return _of_cohere
    return dict


def model_list(headers: Headers, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return a list of models in the form that a client expects."""
    form = model_form(headers)
    models = [form(entry) for entry in entries]
    return {"models": models} if form is _of_cohere else {"object": "list", "data": models}
