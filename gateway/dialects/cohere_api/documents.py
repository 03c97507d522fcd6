"""Documents of Cohere's chat API at other providers: sent in a system message, without citations in the answer."""

from __future__ import annotations

from typing import Any

from gateway.dialects.cohere_api.request import encode
from providers.base import Adjustment, Body, Refusal, Target
from providers.rules.places import Place, places_of

INTRODUCTION = "Documents that are relevant to the conversation, one JSON object per line:\n"
_REASON = "sent in a system message; the answer has no citations"


def fit_documents(body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
    """If the target has no field for documents, send the documents in a message and drop `citation_options`.

    In strict mode, raise Refusal for such documents unless the request turns citations off.
    """
    if target.kind.capabilities(target.model).get("documents", {}).get("support") == "yes":
        return []
    options, documents, made = body.get("citation_options"), body.get("documents"), []
    wants_none = type(options) is dict and options.get("mode") in ("OFF", "DISABLED")
    if options is not None:
        body.pop("citation_options")
        made.append(Adjustment("citation_options", "drop", why="the answer has no citations"))
    if not documents:
        return made
    if strict and not wants_none:
        raise Refusal(f"'documents' cannot be honoured by {target.name}: {_REASON}.", "documents", "unsupported_parameter")
    body.pop("documents")
    text = INTRODUCTION + "\n".join(encode(_content(document)).decode() for document in documents)
    messages = body.get("messages")
    rules = next((at for at, message in enumerate(messages) if message.get("role") not in ("system", "developer")), len(messages))
    places = places_of(body, range(len(messages)))
    body.places = [*places[:rules], Place("documents", is_exact=False), *places[rules:]]
    body.set("messages", [*messages[:rules], {"role": "system", "content": text}, *messages[rules:]])
    return [*made, Adjustment("documents", "reshape", why=_REASON)]


def _content(document: Any) -> Any:
    if type(document) is str:
        return {"text": document}
    data = document.get("data")
    named = {"id": document["id"]} if "id" in document else {}
    return {**named, **data} if type(data) is dict else document
