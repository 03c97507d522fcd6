"""Translates a request of Cohere's embed API (v1 and v2) to an embeddings request in OpenAI's format.

Source: cohere 7.3.1 (ClientV2.embed, Client.embed), as of 2026-11.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.errors import BadRequest, refuse

TYPES = ("float", "int8", "uint8", "binary", "ubinary", "base64")
"""The types of vectors that Cohere returns."""
CONVERTED = frozenset({"float", "base64"})
"""The types that the gateway can make from the vectors of any provider."""
CALLERS_NAMES = {"dimensions": "output_dimension", "encoding_format": "embedding_types"}
_ONE_OF = ("texts", "images", "inputs")
_NOT_EXPRESSED = (
    "Only targets of the type cohere support this. "
    "To send the request to another address of Cohere, declare the path under 'passthrough:'."
)
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class EmbedRequest(NamedTuple):
    """An embeddings request, and the parts of Cohere's request that the answer needs."""

    body: bytes
    source: str
    """The field with the inputs."""
    types: tuple[str, ...]
    """The requested types of vectors, without repetitions."""
    texts: list[str]
    """The inputs. An input that is not a text is represented by a short text."""
    refusal: BadRequest | None
    """The reason why the request can be sent only in native attempts, or None."""


def translate_request(source: bytes) -> EmbedRequest:
    """Return the embeddings request. Raise BadRequest for an invalid request.

    The gateway's checks of embeddings requests apply to the result as well.
    """
    body = _decode(source)
    given = [name for name in _ONE_OF if body.get(name) is not None]
    if len(given) != 1:
        code = "invalid_value" if given else "missing_required_parameter"
        raise refuse("texts", "Exactly one of 'texts', 'images' and 'inputs' is required.", code)
    if "input" in body:
        raise refuse("input", "Cohere's API has no parameter 'input': send 'texts'.", "unsupported_parameter")
    (name,) = given
    types = _types(body.pop("embedding_types", None))
    texts, refusal = _texts(name, body.pop(name))
    for each in _ONE_OF:
        body.pop(each, None)
    body["input"] = texts
    if not CONVERTED.issuperset(types):
        other = next(each for each in types if each not in CONVERTED)
        refusal = refusal or _not_expressed("embedding_types", f"'embedding_types' has '{other}'.")
    if "base64" in types and "float" not in types:
        body["encoding_format"] = "base64"
    if "output_dimension" in body:
        body["dimensions"] = body.pop("output_dimension")
    return EmbedRequest(_encode(body), name, types, texts, refusal)


def _types(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if type(value) is not list or not all(type(each) is str for each in value):
        raise refuse("embedding_types", "'embedding_types' must be a list of strings.", "invalid_type")
    if unknown := next((each for each in value if each not in TYPES), None):
        raise refuse("embedding_types", f"'embedding_types' may contain only {', '.join(TYPES)}, not '{unknown[:40]}'.")
    return tuple(dict.fromkeys(value))


def _texts(name: str, value: Any) -> tuple[list[str], BadRequest | None]:
    """Return the inputs as texts. If an input is not a text, also return the error for providers that embed only texts, else None."""
    if type(value) is not list:
        raise refuse(name, f"'{name}' must be a list.", "invalid_type")
    if name == "texts":
        return _strings(name, value), None
    refusal = None
    texts = []
    if name == "images":
        texts = ["image" for _ in _strings(name, value)]
        refusal = _not_expressed(name, "'images' are not texts.") if texts else None
        return texts, refusal
    for index, each in enumerate(value):
        parts = each.get("content") if type(each) is dict else None
        if type(parts) is not list or not parts or not all(type(part) is dict for part in parts):
            path = f"inputs[{index}].content"
            raise refuse(path, f"'{path}' must be a non-empty list of objects.", "invalid_type")
        if len(parts) == 1 and parts[0].get("type") == "text" and type(parts[0].get("text")) is str:
            texts.append(parts[0]["text"])
            continue
        texts.append("image")
        refusal = refusal or _not_expressed(f"inputs[{index}].content", f"'inputs[{index}].content' is not a single text.")
    return texts, refusal


def _strings(name: str, value: list[Any]) -> list[str]:
    for index, each in enumerate(value):
        if type(each) is not str:
            raise refuse(f"{name}[{index}]", f"'{name}[{index}]' must be a string.", "invalid_type")
    return value


def _not_expressed(param: str, why: str) -> BadRequest:
    return refuse(param, f"{why} {_NOT_EXPRESSED}", "unsupported_content")
