"""The reasoning of earlier turns: from a chat message to `encrypted_content` and back, unchanged bit for bit.

Providers return reasoning that only they can read: Anthropic's signed `thinking_blocks`, OpenRouter's
`reasoning_details`. The caller gets this reasoning as `encrypted_content` and sends it back with the next request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.values import ABSENT, Raw, elements, encode, fields, is_absent, text
from gateway.errors import refuse

PREFIX = "lockgate.1."
"""The beginning of each `encrypted_content` that the gateway makes. Content with another beginning was made by a provider's own API."""
OPAQUE = ("thinking_blocks", "reasoning_details")
"""Lists in a chat message that go back to the provider as they are."""
TEXT_FIELDS = ("reasoning_content", "reasoning")
_FIELD = "field"

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def seal(field: str, opaque: Mapping[str, Raw]) -> str | None:
    """Return the `encrypted_content` of a message's reasoning, or None if the text alone restores the reasoning.

    `field` is the name of the field that has the text.
    """
    kept: dict[str, object] = dict(opaque)
    if field == "reasoning":
        kept[_FIELD] = field
    return PREFIX + base64.urlsafe_b64encode(encode(kept)).decode() if kept else None


def read_reasoning(param: str, item: Mapping[str, Raw], changes: Changes) -> dict[str, Raw]:
    """Return the fields of the chat message for a reasoning item."""
    found: dict[str, Raw] = {}
    field = TEXT_FIELDS[0]
    sealed = item.get("encrypted_content", ABSENT)
    if not is_absent(sealed):
        where = f"{param}.encrypted_content"
        content = text(where, sealed)
        opened = {}
        if content.startswith(PREFIX):
            opened = open_sealed(where, content)
        elif content:
            changes.loss(where, "only the API that encrypted it can read it")
        if _FIELD in opened:
            field = TEXT_FIELDS[1]
        found = {name: opened[name] for name in OPAQUE if name in opened}
    thoughts = _text(param, item, changes)
    if thoughts:
        found[field] = Raw(encode(thoughts))
    return found


def join(first: dict[str, Raw], second: Mapping[str, Raw]) -> None:
    """Append the reasoning `second` to `first`, which holds that of earlier items of the same message."""
    for name, raw in second.items():
        if name not in first:
            first[name] = raw
        elif name in OPAQUE:
            first[name] = Raw(encode([*_decode_list(first[name]), *_decode_list(raw)]))
        else:
            first[name] = Raw(bytes(first[name])[:-1] + bytes(raw)[1:])


def open_sealed(param: str, sealed: str) -> dict[str, Raw]:
    """Return the value that `seal` sealed. Raise BadRequest if the sealed value is damaged."""
    try:
        opened = _decode_fields(base64.b64decode(sealed[len(PREFIX) :], altchars=b"-_", validate=True))
        for name in OPAQUE:
            _decode_list(opened.get(name, b"[]"))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise refuse(param, f"'{param}' is damaged: it must be sent back as it was received.") from None
    return opened


def _text(param: str, item: Mapping[str, Raw], changes: Changes) -> str:
    """Return the text of a reasoning item, or the summary if the item has no text."""
    found = ""
    for name, kind, glue in (("content", "reasoning_text", ""), ("summary", "summary_text", "\n\n")):
        raw = item.get(name, ABSENT)
        if is_absent(raw):
            continue
        texts = []
        for index, part in enumerate(elements(f"{param}.{name}", raw)):
            where = f"{param}.{name}[{index}]"
            members = fields(where, part)
            given = text(f"{where}.type", members.get("type", ABSENT))
            if given not in (kind, "text"):
                raise refuse(f"{where}.type", f"'{where}.type' must be '{kind}', not '{given[:40]}'.")
            texts.append(text(f"{where}.text", members.get("text", ABSENT)))
        if texts and found:
            changes.without_loss(f"{param}.{name}", "the reasoning itself is sent")
        found = found or glue.join(texts)
    return found


def add_detail(details: list[Any], detail: Any) -> None:
    """Add a piece of `reasoning_details` from a stream. Successive pieces with the same type and index are joined."""
    last: Any = details[-1] if details else None
    alike = type(last) is dict and type(detail) is dict and "index" in detail
    if not alike or (last.get("type"), last.get("index")) != (detail.get("type"), detail["index"]):
        details.append(detail)
        return
    for name, given in detail.items():
        if name in ("text", "summary", "data") and type(given) is str and type(last.get(name)) is str:
            last[name] += given
        elif given is not None:
            last[name] = given
