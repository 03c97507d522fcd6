"""Translates content blocks of users, tool results and the system prompt to content parts of a chat completion."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.dialects.messages_api.changes import Changes, missing, unsupported, wrong_type
from gateway.dialects.messages_api.fields import (
    ABSENT,
    Fields,
    encode,
    fields,
    is_given,
    is_text,
    list_of_fields,
    raw_text,
    text,
)
from gateway.errors import refuse

Part = dict[str, Any]
_MARK = "cache_control"
_TEXT = msgspec.Raw(b'"text"')
NO_CITATIONS = "a chat completion has no citations in its input"


def extra_fields(block: Fields, *known: str) -> Part:
    """Return the fields that are copied: the cache mark and unknown fields."""
    return {name: raw for name, raw in block.items() if name not in known and (name != _MARK or is_given(raw))}


def kind_of(block: Fields, param: str) -> str:
    """Return the type of a block."""
    return text(block.get("type", ABSENT), f"{param}.type")


def parts_of(blocks: list[Fields], param: str, changes: Changes, first: int = 0) -> list[Part]:
    """Return the content parts of a list of blocks. A block may become several parts."""
    parts: list[Part] = []
    for index, block in enumerate(blocks, first):
        parts += part_of(block, f"{param}[{index}]", changes)
    return parts


def part_of(block: Fields, param: str, changes: Changes) -> list[Part]:
    """Return the content parts of a block. Raise BadRequest for a block that a chat completion cannot express."""
    kind = kind_of(block, param)
    translate = _TRANSLATIONS.get(kind)
    if translate is None:
        raise unsupported(
            f"{param}.type",
            f"Content of type '{kind[:60]}' cannot be translated to a chat completion. "
            f"Supported types: {', '.join(_TRANSLATIONS)}, thinking, redacted_thinking, tool_use, tool_result.",
        )
    return translate(block, param, changes)


def text_part(block: Fields, param: str, changes: Changes) -> list[Part]:
    """Return the part of a text block. The block's citations are left out."""
    content = raw_text(block.get("text", ABSENT), f"{param}.text")
    if len(block) == 2:
        return [{"type": _TEXT, "text": content}]
    citations = block.get("citations", ABSENT)
    if is_given(citations) and bytes(citations) != b"[]":
        changes.lose(f"{param}.citations", "a chat completion has no citations in its input")
    return [{"type": "text", "text": content, **extra_fields(block, "type", "text", "citations")}]


def _image(block: Fields, param: str, changes: Changes) -> list[Part]:
    source = _source(block, param)
    where = f"{param}.source"
    kind = text(source.get("type", ABSENT), f"{where}.type")
    if kind == "base64":
        media = text(source.get("media_type", ABSENT), f"{where}.media_type")
        address = _data_address(media, raw_text(source.get("data", ABSENT), f"{where}.data"))
    elif kind == "url":
        address = raw_text(source.get("url", ABSENT), f"{where}.url")
    else:
        raise _no_file(where, kind)
    if is_given(block.get("transformations", ABSENT)):
        changes.lose(f"{param}.transformations", "a chat completion has no setting for the scaling of large images")
    return [
        {
            "type": "image_url",
            "image_url": {"url": address},
            **extra_fields(block, "type", "source", "transformations"),
        }
    ]


def _document(block: Fields, param: str, changes: Changes) -> list[Part]:
    source = _source(block, param)
    where = f"{param}.source"
    kind = text(source.get("type", ABSENT), f"{where}.type")
    title = block.get("title", ABSENT)
    extra = extra_fields(block, "type", "source", "title", "context", "citations")
    if is_given(title):
        raw_text(title, f"{param}.title")
    _lose_citations(block, param, changes)
    parts: list[Part] = []
    context = block.get("context", ABSENT)
    if is_given(context):
        parts.append({"type": "text", "text": raw_text(context, f"{param}.context")})
        changes.reshape(f"{param}.context", "sent as a text before the document")
    if kind == "content":
        return [*parts, *_content_document(source, where, extra, title, changes)]
    address: msgspec.Raw | str
    if kind == "base64":
        media = text(source.get("media_type", ABSENT), f"{where}.media_type")
        address = _data_address(media, raw_text(source.get("data", ABSENT), f"{where}.data"))
    elif kind == "text":
        content = text(source.get("data", ABSENT), f"{where}.data")
        address = f"data:text/plain;base64,{base64.b64encode(content.encode(errors='replace')).decode()}"
    elif kind == "url":
        address = raw_text(source.get("url", ABSENT), f"{where}.url")
        changes.file_addresses.append(f"{where}.url")
    else:
        raise _no_file(where, kind)
    file: Part = {"file_data": address}
    if is_given(title):
        file["filename"] = title
    return [*parts, {"type": "file", "file": file, **extra}]


def _content_document(source: Fields, where: str, extra: Part, title: msgspec.Raw, changes: Changes) -> list[Part]:
    """Return a document of content blocks as its title and its parts."""
    content = source.get("content", ABSENT)
    parts: list[Part] = [{"type": "text", "text": title}] if is_given(title) else []
    if is_text(content):
        parts.append({"type": "text", "text": content})
    else:
        parts += parts_of(list_of_fields(content, f"{where}.content"), f"{where}.content", changes)
    changes.reshape(where, "the content of the document is sent as texts and images")
    if parts:
        parts[-1] = {**parts[-1], **extra}
    return parts


def _search_result(block: Fields, param: str, changes: Changes) -> list[Part]:
    """Return a search result as its title, its source and its texts."""
    heading = [text(block.get(name, ABSENT), f"{param}.{name}") for name in ("title", "source")]
    where = f"{param}.content"
    texts = list_of_fields(block.get("content", ABSENT), where)
    for index, each in enumerate(texts):
        if kind_of(each, f"{where}[{index}]") != "text":
            raise unsupported(f"{where}[{index}].type", "The content of a search result must be text.")
    _lose_citations(block, param, changes)
    changes.reshape(param, "sent as texts: its title and source, then its content")
    parts: list[Part] = [{"type": "text", "text": "\n".join(heading)}, *parts_of(texts, where, changes)]
    parts[-1] = {**parts[-1], **extra_fields(block, "type", "title", "source", "content", "citations")}
    return parts


def _lose_citations(block: Fields, param: str, changes: Changes) -> None:
    citations = block.get("citations", ABSENT)
    if is_given(citations) and not is_off(citations, f"{param}.citations"):
        changes.lose(f"{param}.citations", NO_CITATIONS)


def is_off(citations: msgspec.Raw, param: str) -> bool:
    """Return whether the `citations` of a document or a search result do not turn citations on."""
    return bytes(fields(citations, param).get("enabled", b"false")) == b"false"


def _source(block: Fields, param: str) -> Fields:
    source = block.get("source", ABSENT)
    if not len(source):
        raise missing(f"{param}.source")
    return fields(source, f"{param}.source")


def _data_address(media: str, data: msgspec.Raw) -> msgspec.Raw:
    """Return a `data:` address. The base64 text is copied as it is."""
    return msgspec.Raw(encode(f"data:{media};base64,")[:-1] + bytes(data)[1:])


def _no_file(where: str, kind: str) -> Exception:
    if kind == "file":
        return unsupported(where, "A file id belongs to Anthropic's Files API: send the content as base64 or as a URL.")
    return refuse(f"{where}.type", f"'{where}.type' must be base64 or url (documents: also text or content).")


def content_of(raw: msgspec.Raw, param: str, changes: Changes) -> msgspec.Raw | list[Part]:
    """Return the content of a system prompt or a tool result: a string, or the parts of a list of blocks."""
    if is_text(raw):
        return raw
    if bytes(raw)[:1] != b"[":
        raise wrong_type(param, "a string or a list of content blocks")
    return parts_of(list_of_fields(raw, param), param, changes)


_TRANSLATIONS: Mapping[str, Callable[[Fields, str, Changes], list[Part]]] = {
    "text": text_part,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
