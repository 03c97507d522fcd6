"""Rules for rerank: documents as texts, their number, and the results that are returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from providers.base import Body
from providers.rerank_table import RERANK_FIELDS, RerankRow
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.values import Drop, EnforcedLocally

_encode = msgspec.json.Encoder().encode


def ranked_fields(document: dict[str, Any], fields: Sequence[str] | None) -> list[str]:
    """Return the fields of a document that are ranked: those requested, else `text`, else all."""
    if fields:
        return [name for name in fields if document.get(name) is not None]
    return ["text"] if type(document.get("text")) is str else list(document)


def document_text(document: str | dict[str, Any], fields: Sequence[str] | None = None) -> str:
    """Return the text of a document. The text of an object is its `text`, or a line for each ranked field."""
    if isinstance(document, str):
        return document
    names = ranked_fields(document, fields)
    if names == ["text"] and type(document["text"]) is str:
        return document["text"]
    return "\n".join(f"{name}: {_plain(document[name])}" for name in names)


def document_texts(body: Body) -> list[str]:
    """Return the texts of all documents of a request."""
    fields = body.get("rank_fields") if "rank_fields" in body else None
    return [document_text(document, fields) for document in body.get("documents")]


def _plain(value: Any) -> str:
    return value if type(value) is str else _encode(value).decode()


class Documents(Rule, frozen=True):
    """Sends documents as texts, because every vendor ranks texts: an object becomes the text of its ranked fields."""

    row: RerankRow
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    @property
    def params(self) -> tuple[str, ...]:
        return ("documents", "rank_fields", "top_n")

    def apply(self, work: Work) -> None:
        """Convert objects to texts. Raise Refusal for more documents than the provider accepts."""
        body, row = work.body, self.row
        documents = body.get(self.param)
        if row.max_documents is not None and len(documents) > row.max_documents:
            raise work.refuse(self.param, f"at most {row.max_documents} documents are accepted, not {len(documents)}")
        if any(type(document) is dict for document in documents):
            body.set(self.param, document_texts(body))
            work.report(self.param, "reshape", why="objects are sent as the text of their ranked fields")
        if "rank_fields" in body:
            body.pop("rank_fields")
            work.report("rank_fields", "enforce_locally", why="the gateway selects the fields")
        if "top_n" in body and body.get("top_n") is not None and body.get("top_n") >= len(documents):
            body.pop("top_n")
            work.report("top_n", "drop", why="neutral value")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"}}


class ReturnDocuments(Rule, frozen=True):
    """Whether results contain their documents, which the gateway adds itself."""

    is_sent: bool
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Remove the parameter, or send false to an endpoint that returns documents by default."""
        if "return_documents" in work.body:
            value = work.body.pop(self.param)
            if value:
                work.report(self.param, "enforce_locally", from_=value, why="the gateway adds the documents to the results")
            elif not self.is_sent:
                work.report(self.param, "drop", why="neutral value")
        if self.is_sent:
            work.body.set(self.param, False)


def rerank_rules(row: RerankRow) -> tuple[Rule, ...]:
    """Return the rules that follow from a row."""
    accepted = row.accepts.split()
    return (
        Accepts(" ".join(("model query", *accepted))),
        Documents("documents", row),
        ReturnDocuments("return_documents", row.returns_documents),
        *(Drop(name) for name in RERANK_FIELDS if name not in accepted),
        EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
    )
