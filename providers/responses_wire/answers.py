"""Converts an answer of the Responses API to a chat completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from providers.base import Answer, Failure, StreamFailure
from providers.failures import read_inband_failure
from providers.responses_wire.reasoning import detail_of, text_of
from providers.usage import COST_FIELDS, read_count, read_usage

ReadFailure = Callable[[int, bytes], Failure]
PARAGRAPH = "\n\n"
"""The separator between two messages, or between two parts of a summary, of one answer."""
_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
_REFUSED = frozenset((
    "invalid_prompt", "data_residency_mismatch", "bio_policy", "misalignment_policy_violation", "invalid_image", "invalid_image_format",
    "invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small", "image_parse_error",
    "image_content_policy_violation", "invalid_image_mode", "image_file_too_large", "unsupported_image_media_type", "empty_image_file",
    "failed_to_download_image", "image_file_not_found",
))  # fmt: skip
"""Error codes that mean that the request is at fault (openai 3.57.0, ResponseError)."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def read_response(body: bytes, origin: str, read: ReadFailure) -> Answer:
    """Return an answer as a chat completion. Raise ValueError if `body` is not an answer, and StreamFailure if it reports an error."""
    source = _decode(body)
    output = source.get("output")
    if source.get("status") == "failed" or (source.get("error") and not output):
        raise StreamFailure(failure_of(source, read))
    if type(output) is not list or source.get("status") not in (None, "completed", "incomplete"):
        raise ValueError("the answer has no output")
    message, logprobs = _message(output, origin)
    reason = finish_of(source, calls="tool_calls" in message)
    choice = {"index": 0, "message": message, "logprobs": {"content": logprobs, "refusal": None} if logprobs else None}
    answer: dict[str, Any] = {
        "id": source.get("id"),
        "object": "chat.completion",
        "created": created_of(source),
        "model": source.get("model"),
        "choices": [{**choice, "finish_reason": reason}],
    }
    usage = usage_of(source)
    if usage is not None:
        answer["usage"] = usage
    if source.get("service_tier") is not None:
        answer["service_tier"] = source["service_tier"]
    return Answer(_encode(answer), read_usage(usage, source.get("service_tier")), (reason,))


def created_of(response: Mapping[str, Any]) -> int:
    """Return the time of the answer in whole seconds, or 0 if it is unknown."""
    created = response.get("created_at")
    return int(created) if isinstance(created, (int, float)) else 0


def finish_of(response: Mapping[str, Any], *, calls: bool) -> str:
    """Return the finish reason of a chat completion."""
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        return _INCOMPLETE.get(str(details.get("reason")) if type(details) is dict else "", "length")
    return "tool_calls" if calls else "stop"


def usage_of(response: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the usage in the form of a chat completion, or None if it is not reported."""
    usage = response.get("usage")
    if type(usage) is not dict:
        return None
    given, written, total = (read_count(usage.get(f"{name}_tokens")) for name in ("input", "output", "total"))
    if total is not None and given is not None and written is None:
        written = max(0, total - given)
    if given is None or written is None:
        return None
    return {
        **{name: usage[name] for name in COST_FIELDS if name in usage},
        "prompt_tokens": given,
        "completion_tokens": written,
        "total_tokens": given + written if total is None else total,
        "prompt_tokens_details": _counts(usage.get("input_tokens_details"), "cached_tokens"),
        "completion_tokens_details": _counts(usage.get("output_tokens_details"), "reasoning_tokens"),
    }


def _counts(details: Any, first: str) -> dict[str, Any]:
    return {first: 0, **{name: count for name, count in (details if type(details) is dict else {}).items() if count is not None}}


def failure_of(source: Mapping[str, Any], read: ReadFailure) -> Failure:
    """Return the failure that a response or an event reports."""
    error = source.get("error")
    if type(error) is not dict:
        error = {name: source.get(name) for name in ("message", "code", "param")}
    data = _encode({"error": {"message": "the response failed", **error}})
    return read(400, data) if error.get("code") in _REFUSED else read_inband_failure(data, read)


def call_of(item: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """Return the type, the name of the field with the arguments, and the call, or None if the item is not a call."""
    found = _CALLS.get(str(item.get("type")))
    if found is None:
        return None
    kind, given = found
    called = {"name": item.get("name"), given: item.get(given) or ""}
    return kind, given, {"id": item.get("call_id") or item.get("id"), "type": kind, kind: called}


def annotation_of(annotation: Any, start: int) -> dict[str, Any]:
    """Return an annotation in the form of a chat completion.

    `start` is the position in the whole text at which its part begins.
    """
    kind = str(annotation.get("type"))
    fields = {name: value for name, value in annotation.items() if name != "type"}
    for name in ("start_index", "end_index"):
        if type(fields.get(name)) is int:
            fields[name] += start
    return {"type": kind, kind: fields}


def _message(output: list[Any], origin: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the message and the log probabilities of its tokens."""
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    logprobs: list[Any] = []
    length = position = 0
    for item in output:
        kind = item.get("type")
        if kind == "reasoning":
            thoughts += [text] if (text := text_of(item)) else []
            detail = detail_of(item, origin, len(details), position)
            details += [detail] if detail is not None else []
        elif kind == "message":
            position += not texts and not refusals
            separator = PARAGRAPH if texts else ""
            for part in item.get("content") or ():
                if part.get("type") == "refusal":
                    refusals.append(part.get("refusal") or "")
                elif part.get("type") == "output_text":
                    text, separator = separator + (part.get("text") or ""), ""
                    texts.append(text)
                    start = length + len(text) - len(part.get("text") or "")
                    annotations += [annotation_of(each, start) for each in part.get("annotations") or ()]
                    length += len(text)
                    logprobs += part.get("logprobs") or ()
        elif (call := call_of(item)) is not None:
            calls.append(call[2])
            position += 1
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    message["refusal"] = "".join(refusals) if refusals else None
    more = {"reasoning_content": PARAGRAPH.join(thoughts), "reasoning_details": details, "tool_calls": calls, "annotations": annotations}
    return message | {name: value for name, value in more.items() if value}, logprobs
