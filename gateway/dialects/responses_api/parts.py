"""Content parts: `input_text`, `input_image` and so on, as parts of a chat message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.values import (
    ABSENT,
    Raw,
    choice,
    elements,
    fields,
    is_absent,
    is_string,
    others,
    string,
    text,
    wrong_type,
)
from gateway.errors import refuse

_TEXT_KINDS = ("input_text", "output_text", "text")
_IMAGE_FIELDS = frozenset({"type", "image_url", "detail", "file_id"})
_FILE_FIELDS = frozenset({"type", "file_data", "file_id", "file_url", "filename", "detail"})
_TEXT_FIELDS = frozenset({"type", "text", "annotations", "logprobs"})
_EMPTY = (b"", b"null", b"[]")
_KINDS = "input_text, output_text, refusal, input_image, input_file, input_audio"


def read_content(param: str, raw: Raw, changes: Changes) -> Raw | list[dict[str, Any]]:
    """Return the content of a chat message: the string as it is, or a list of parts."""
    if is_string(raw):
        return raw
    if is_absent(raw) or memoryview(raw)[0] != ord("["):
        string_or_list = "a string or a list of content parts"
        raise (
            wrong_type(param, string_or_list)
            if len(raw)
            else refuse(param, f"'{param}' is required.", "missing_required_parameter")
        )
    return [_part(f"{param}[{index}]", part, changes) for index, part in enumerate(elements(param, raw))]


def _part(param: str, raw: Raw, changes: Changes) -> dict[str, Any]:
    part = fields(param, raw)
    kind = text(f"{param}.type", part.get("type", ABSENT))
    if kind in _TEXT_KINDS:
        if bytes(part.get("annotations", ABSENT)) not in _EMPTY:
            changes.loss(f"{param}.annotations", "a chat completion has no citations of earlier answers")
        if bytes(part.get("logprobs", ABSENT)) not in _EMPTY:
            changes.without_loss(f"{param}.logprobs", "log probabilities of earlier answers have no effect")
        return {"type": "text", "text": string(f"{param}.text", part.get("text", ABSENT)), **others(part, _TEXT_FIELDS)}
    if kind == "input_image":
        return _image(param, part, changes)
    if kind == "input_file":
        return _file(param, part, changes)
    if kind == "refusal":
        return {"type": kind, "refusal": string(f"{param}.refusal", part.get("refusal", ABSENT))}
    if kind == "input_audio":
        fields(f"{param}.input_audio", part.get("input_audio", ABSENT))
        return dict(part)
    raise refuse(f"{param}.type", f"'{param}.type' must be one of {_KINDS}, not '{kind[:40]}'.", "unsupported_content")


def _image(param: str, part: Mapping[str, Raw], changes: Changes) -> dict[str, Any]:
    if not is_absent(part.get("file_id", ABSENT)):
        raise _no_stored_files(f"{param}.file_id")
    image: dict[str, Any] = {"url": string(f"{param}.image_url", part.get("image_url", ABSENT))}
    if not is_absent(detail := part.get("detail", ABSENT)):
        wanted = choice(f"{param}.detail", detail, ("auto", "low", "high", "original"))
        if wanted == "original":  # chat completions of the openai package 3.3.0 have no such level
            changes.loss(f"{param}.detail", "a chat completion has no such level", "downgrade", to="high")
            wanted = "high"
        image["detail"] = wanted
    return {"type": "image_url", "image_url": image, **others(part, _IMAGE_FIELDS)}


def _file(param: str, part: Mapping[str, Raw], changes: Changes) -> dict[str, Any]:
    file = {
        name: string(f"{param}.{name}", part[name])
        for name in ("filename", "file_data", "file_id")
        if not is_absent(part.get(name, ABSENT))
    }
    if not is_absent(address := part.get("file_url", ABSENT)):
        if not text(f"{param}.file_url", address).startswith(("http://", "https://")):
            raise refuse(f"{param}.file_url", f"'{param}.file_url' must be an http or https address.")
        file.setdefault("file_data", address)
        changes.file_addresses.append(f"{param}.file_url")
    if "file_data" not in file and "file_id" not in file:
        raise refuse(f"{param}.file_data", f"'{param}.file_data' is required.", "missing_required_parameter")
    if (
        not is_absent(detail := part.get("detail", ABSENT))
        and choice(f"{param}.detail", detail, ("auto", "low", "high")) != "auto"
    ):
        changes.loss(f"{param}.detail", "files in a chat completion have no level of detail")
    return {"type": "file", "file": file, **others(part, _FILE_FIELDS)}


def _no_stored_files(param: str) -> Exception:
    return refuse(
        param,
        f"'{param}' is not supported: the image must be an address or a data: URI in 'image_url'.",
        "unsupported_content",
    )
