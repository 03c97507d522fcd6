"""Converts the JSON answer of a chat completion to a response object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.dialects.responses_api import output, reasoning
from gateway.dialects.responses_api.conversation import callers_receipt
from gateway.dialects.responses_api.namespaces import Member
from gateway.dialects.responses_api.request import RequestReader
from gateway.dialects.responses_api.values import ABSENT, Raw, encode, is_absent, is_string


class _Choice(msgspec.Struct):
    message: dict[str, Raw] = {}
    finish_reason: Any = None
    logprobs: Raw = ABSENT


class _Completion(msgspec.Struct):
    id: Any = None
    created: Any = None
    model: Raw = ABSENT
    choices: list[_Choice] | None = None
    usage: Raw = ABSENT
    service_tier: Raw = ABSENT
    gateway: Raw = ABSENT


_decode = msgspec.json.Decoder(_Completion).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_calls = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def to_response(answer: bytes, request: RequestReader) -> bytes:
    """Return the response for a chat completion."""
    completion = _decode(answer)
    model = request.model if is_absent(completion.model) else completion.model
    identity = output.identify(request.base or completion.id, completion.created, model)
    choice = completion.choices[0] if completion.choices else _Choice()
    reason = output.INCOMPLETE.get(str(choice.finish_reason))
    items = list(_items(identity, choice, "incomplete" if reason else "completed", request))
    more: dict[str, Any] = {"service_tier": completion.service_tier} if len(completion.service_tier) else {}
    if len(completion.gateway):
        more["gateway"] = callers_receipt(completion.gateway, request.conversation.origins)
    encoded = [Raw(encode(item)) for item in items]
    status = "incomplete" if reason else "completed"
    response = output.Response(identity, request.echo)
    return response.encode(status, encoded, reason=reason, usage=completion.usage, more=more)


def _items(identity: output.Identity, choice: _Choice, last: str, request: RequestReader) -> Iterator[dict[str, Any]]:
    """Yield the output items. `last` is the status of the last item."""
    message = choice.message
    calls = list_of(message.get("tool_calls", ABSENT))
    parts, thoughts = _parts(choice)
    field = next((name for name in reasoning.TEXT_FIELDS if output.is_text(message.get(name, ABSENT))), "")
    opaque = {name: message[name] for name in reasoning.OPAQUE if list_of(message.get(name, ABSENT))}
    thought = message[field] if field else thoughts
    extra = message.get("extra_content", ABSENT)
    index = 0
    if field or opaque or len(thoughts):
        ends = not parts and not calls
        yield output.reasoning_item(
            identity.item_id("rs", index),
            last if ends else "completed",
            thought,
            reasoning.seal(field, opaque),
            summary=request.summary,
        )
        index += 1
    if parts or not (calls or index):
        yield output.message_item(
            identity.item_id("msg", index),
            "completed" if calls else last,
            parts or [output.text_part(output.EMPTY_TEXT)],
            extra,
        )
        index += 1
    for number, raw in enumerate(calls):
        call, given = _call(identity, index, raw, request.tools.members)
        status = last if number == len(calls) - 1 else "completed"
        yield output.call_item(identity.item_id(call.prefix, index), status, call, given)
        index += 1


def _parts(choice: _Choice) -> tuple[list[dict[str, Any]], Raw]:
    """Return the content parts of a message, and the thinking in the message's content."""
    message, parts, thoughts = choice.message, [], ABSENT
    content = message.get("content", ABSENT)
    if is_string(content):
        text = content
    else:
        text, thoughts = from_parts(content)
    if output.is_text(text):
        annotations = [output.annotation_of(each) for each in list_of(message.get("annotations", ABSENT))]
        parts.append(output.text_part(text, annotations, tokens_of(choice.logprobs)))
    if output.is_text(refusal := message.get("refusal", ABSENT)):
        parts.append(output.refusal_part(refusal))
    return parts, thoughts


def from_parts(raw: Raw) -> tuple[Raw, Raw]:
    """Return the text and the thinking of content that is a list of parts (Mistral, Cohere)."""
    texts, thoughts = [], []
    for part in list_of(raw):
        try:
            members = _decode_fields(part)
        except msgspec.ValidationError:
            continue
        if is_string(text := members.get("text", ABSENT)):
            texts.append(text)
        elif is_string(thinking := members.get("thinking", ABSENT)):
            thoughts.append(thinking)
        else:
            inner = from_parts(thinking)[0]
            thoughts += [inner] if len(inner) else []
    return joined(texts), joined(thoughts)


def joined(texts: list[Raw]) -> Raw:
    """Join JSON strings into one, without decoding them. Return ABSENT if there are none."""
    return Raw(b'"' + b"".join(bytes(text)[1:-1] for text in texts) + b'"') if texts else ABSENT


def _call(identity: output.Identity, index: int, raw: Raw, tools: Mapping[str, Member]) -> tuple[output.Call, Raw]:
    """Return a call and its arguments or input."""
    read = output.called(_decode_fields(raw))
    given = read.called.get("input" if read.custom else "arguments", output.EMPTY_TEXT)
    return read.call(identity, index, tools), given if is_string(given) else Raw(encode(bytes(given).decode()))


def tokens_of(logprobs: Raw) -> list[Raw]:
    """Return the tokens of a choice with their log probabilities, or an empty list if they do not have the usual form."""
    if is_absent(logprobs) or memoryview(logprobs)[0] != ord("{"):
        return []
    return list_of(_decode_fields(logprobs).get("content", ABSENT))


def list_of(raw: Raw) -> list[Raw]:
    """Return the elements of a list, and nothing for any other value."""
    return _decode_list(raw) if len(raw) and memoryview(raw)[0] == ord("[") else []
