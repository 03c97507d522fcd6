"""Passes calls of the Responses API to providers that offer it: the changes to a request, and the readers of responses.

The provider stores nothing: earlier items are sent with each request, and the gateway stores responses on request.

Source: openai 3.52.0 (ResponseCreateParams, Response, ResponseStreamEvent), as of 2026-11.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.native_api import NativeApi
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.reasoning import PREFIX
from gateway.dialects.responses_api.stored import input_items
from gateway.dialects.responses_api.values import ABSENT, Raw, encode
from gateway.streams.native_relay import EventKind
from providers.base import Adjustment, Answer, Body, Failure, Refusal, StreamFailure, Usage
from providers.failures import read_failure, read_inband_failure
from providers.native_history import ID_TOO_LONG, MAX_CALL_ID, has_long_ids, valid_call_id
from providers.plain_usage import read_mapped
from providers.usage import COST_FIELDS

_NAMES = (
    "background client_metadata context_management conversation include input instructions max_output_tokens max_tool_calls "
    "metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options "
    "prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options temperature text "
    "tool_choice tools top_logprobs top_p truncation user"
)
FIELDS = frozenset(_NAMES.split())
_FRAME = frozenset({
    "response.created", "response.queued", "response.in_progress", "response.output_item.added", "response.content_part.added",
    "keepalive",
})  # fmt: skip
_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CALLS = frozenset({"function_call", "custom_tool_call"})
_OWN_WORDS = (b"encrypted_content", b'"reasoning"', b"extra_content")
_NOT_READABLE = "only its provider can read this reasoning, and OpenAI has not stored it"


class _Item(msgspec.Struct):
    type: str = ""


class _Reason(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    output: list[_Item]
    status: str = "completed"
    incomplete_details: _Reason | None = None
    error: Any = None
    usage: dict[str, Any] | None = None
    service_tier: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    response: Raw = ABSENT


_read_response = msgspec.json.Decoder(_Response).decode
_read_event = msgspec.json.Decoder(_Event).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode


def prepare(body: Body, translator: ResponsesTranslator, strict: bool) -> list[Adjustment]:
    """Put the earlier conversation into `input`.

    Leave out reasoning that only other providers can read and fields that only other providers have, and replace tool-call
    ids that OpenAI would reject. In strict mode, raise Refusal for such reasoning.
    """
    if translator.has_texts_only:
        return []
    source = body.raw("input") or b"[]"
    earlier = translator.earlier
    if earlier is None and (source[:1] == b'"' or not (any(word in source for word in _OWN_WORDS) or has_long_ids(source))):
        return []
    items = [*(earlier or ()), *input_items(Raw(source))]
    kept: list[Raw] = []
    made: list[Adjustment] = []
    for index, item in enumerate(items, -len(earlier or ())):
        members = _decode_fields(item)
        param = f"input[{index}]" if index >= 0 else "previous_response_id"
        if bytes(members.get("type", ABSENT)) == b'"reasoning"' and not _is_readable(members):
            if strict:
                raise Refusal(f"'{param}' cannot be honoured: {_NOT_READABLE}.", param, "unsupported_content")
            made.append(Adjustment(param, "drop", why=_NOT_READABLE))
            continue
        is_changed = members.pop("extra_content", None) is not None
        if (new := _new_call_id(members)) is not None:
            is_changed = True
            members["call_id"] = Raw(encode(new))
            made.append(Adjustment(f"{param}.call_id" if index >= 0 else param, "reshape", to=new, why=ID_TOO_LONG))
        kept.append(Raw(encode(members)) if is_changed else item)
    if earlier is not None:
        body.pop("previous_response_id")
    if earlier is not None or len(kept) < len(items) or any(old is not new for old, new in zip(items, kept, strict=True)):
        body.set("input", kept)
    return made


def _new_call_id(members: dict[str, Raw]) -> str | None:
    """Return the id that replaces the `call_id` of an item, or None if OpenAI accepts the `call_id`."""
    given = members.get("call_id", ABSENT)
    if len(given) <= MAX_CALL_ID + 2 or bytes(given)[:1] != b'"':
        return None
    id = _decode_any(given)
    new = valid_call_id(id)
    return new if new != id else None


def _is_readable(members: dict[str, Raw]) -> bool:
    """Return whether OpenAI can read a reasoning item, that is, whether the item has content that OpenAI encrypted."""
    sealed = bytes(members.get("encrypted_content", ABSENT))
    return sealed.startswith(b'"') and len(sealed) > len(b'""') and not sealed.startswith(b'"' + PREFIX.encode())


def read_answer(body: bytes) -> Answer:
    """Read a response, which keeps its bytes.

    Raise StreamFailure for a failed response, and ValueError for a body that is not a response or for one that has not ended.
    """
    response = _read_response(body)
    return Answer(body, _usage(response), _finish_reasons(response))


def _finish_reasons(response: _Response) -> tuple[str | None, ...]:
    if response.status == "failed":
        raise StreamFailure(_failure(response.error))
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details is not None else None
        return (_INCOMPLETE.get(str(reason), "length"),)
    if response.status != "completed":
        raise ValueError(f"the response is {response.status}")
    return ("stop" if _CALLS.isdisjoint([item.type for item in response.output]) else "tool_calls",)


def _usage(response: _Response) -> Usage | None:
    """Return the usage with the field names of chat completions."""
    given = response.usage
    if given is None:
        return None
    usage = {
        "prompt_tokens": given.get("input_tokens"),
        "completion_tokens": given.get("output_tokens"),
        "total_tokens": given.get("total_tokens"),
        "prompt_tokens_details": given.get("input_tokens_details"),
        "completion_tokens_details": given.get("output_tokens_details"),
    }
    if not given.keys().isdisjoint(COST_FIELDS):
        usage |= {name: given[name] for name in COST_FIELDS if name in given}
    return read_mapped(usage, response.service_tier)


def _failure(error: Any) -> Failure:
    """Return the failure for an error with `code` and `message`."""
    data = encode({"error": error if type(error) is dict else {"message": str(error)}})
    return read_inband_failure(data, lambda status, body: read_failure(status, {}, body))


class ResponseReader:
    """Reads the events of a stream that contain usage, the finish reason or an error."""

    marks: tuple[bytes, ...] = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"event: error")
    content_mark = b".delta\n"

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reasons: tuple[str | None, ...] = ()
        self.stop: str | None = None

    def read(self, name: str, data: bytes) -> EventKind:
        """Read one event."""
        event = _read_event(data)
        kind = event.type or name
        if kind == "error":
            raise StreamFailure(_failure(_decode_any(data)))
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            response = _read_response(event.response)
            self.usage = _usage(response)
            self.finish_reasons = _finish_reasons(response)
            return "end"
        return "frame" if kind in _FRAME else "content"

    def ending(self) -> bytes:
        """Return no event: the event with the finish reason ends a stream."""
        return b""

    def with_receipt(self, events: bytes, receipt: bytes) -> bytes:
        """Add a receipt to the response in the last event, as in a translated stream."""
        head, mark, data = events.rpartition(b"data: ")
        whole = _decode_fields(data)
        whole["response"] = Raw(encode({**_decode_fields(whole["response"]), "gateway": Raw(receipt)}))
        return head + mark + encode(whole) + b"\n\n"


NATIVE = NativeApi(
    operation="responses",
    fields=FIELDS,
    output_cap="max_output_tokens",
    headers=(),
    read_answer=read_answer,
    new_reader=ResponseReader,
    uncounted=frozenset({"prompt"}),
    translate_plain=ResponsesTranslator.plain_request,
    prepare=prepare,
)
