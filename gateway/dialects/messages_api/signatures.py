"""Signatures that the gateway makes. They contain reasoning that only one provider can read, such as that of OpenAI's Responses API.

Callers send thinking back with its signature, so the provider gets its reasoning back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.messages_api.fields import ABSENT, encode, is_given, raw_text, text
from gateway.dialects.responses_api.reasoning import PREFIX, open_sealed, seal

FIELD = "reasoning_details"
"""The field of a chat message that contains such reasoning."""
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def signature_of(details: Sequence[Any]) -> str:
    """Return the signature for a list of `reasoning_details`."""
    return seal("", {FIELD: msgspec.Raw(encode(list(details)))}) or ""


def is_own(block: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether the gateway made the signature of a block of thinking, or left it empty."""
    signature = bytes(block.get("signature", ABSENT))
    return signature in (b'""', b"null") or signature.startswith(b'"' + PREFIX.encode())


def details_in(block: Mapping[str, msgspec.Raw], where: str) -> list[msgspec.Raw]:
    """Return the `reasoning_details` in a block of thinking. Raise BadRequest if the signature of the block is damaged."""
    raw = block.get("signature", ABSENT)
    if not is_given(raw):
        return []
    signature = text(raw_text(raw, f"{where}.signature"), f"{where}.signature")
    if not signature.startswith(PREFIX):
        return []
    return _decode_list(open_sealed(f"{where}.signature", signature).get(FIELD, msgspec.Raw(b"[]")))
