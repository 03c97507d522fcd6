"""Cohere's embed API (v1 and v2): the translator of one call, and the native attempts.

Source: cohere 7.3.1 (EmbedByTypeResponse, EmbedFloatsResponse, ApiMeta), as of 2026-11.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from gateway.dialects.cohere_api.embed_request import CALLERS_NAMES, EmbedRequest, translate_request
from gateway.dialects.cohere_api.errors import translate_error
from gateway.dialects.native_api import NativeApi
from gateway.dialects.rerank import RerankTranslator
from gateway.errors import BadRequest
from gateway.streams.native_relay import EventReader
from providers.base import Adjustment, Answer, Body, Operation, Refusal, Target
from providers.cohere.answers import embed_usage
from providers.cohere.provider import first_version
from providers.embedding_table import ANY_SERVER, EMBEDDINGS
from providers.openai_compatible import base_path
from providers.vectors import encode_vector

NATIVE_OPERATION: Operation = "cohere_embed"
FIELDS = frozenset(
    ["model", "input_type", "texts", "images", "inputs", "max_tokens", "output_dimension", "embedding_types", "truncate", "priority"]
)
FIELDS_V1 = frozenset(["model", "input_type", "texts", "images", "embedding_types", "truncate"])
COHERE_ONLY = ("input_type", "truncate", "max_tokens", "priority")
_NEUTRAL = {"truncate": (None, "NONE"), "priority": (None, 0)}
"""Values that have no effect, so they can be left out: other targets have no priorities, and they always reject texts that are too long."""
_UNSUPPORTED = "not supported upstream"
_encode = msgspec.json.Encoder().encode


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: dict[str, Any] | None = None
    gateway: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Native(msgspec.Struct):
    embeddings: msgspec.Raw
    meta: dict[str, Any] | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_native = msgspec.json.Decoder(_Native).decode


class EmbedTranslator(RerankTranslator):
    """Translates one call of the embed API. Answers are not streamed."""

    version = "2"

    def __init__(self) -> None:
        super().__init__()
        self.refusal: BadRequest | None = None
        self._request = EmbedRequest(b"", "texts", (), [], None)

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the embeddings request. Raise BadRequest for an invalid request."""
        self._request = translate_request(source)
        self.refusal = self._request.refusal
        return self._request.body

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Set Cohere's own default of `truncate` if the target is Cohere. For other targets, drop Cohere's fields that they do not accept.

        In strict mode, raise Refusal for such a field if its value has an effect.
        """
        if NATIVE_OPERATION in target.kind.operations:
            if body.get("truncate") is not None:
                return []
            body.set("truncate", "END")
            return [Adjustment("truncate", "set_default", to="END", why="the default of Cohere's embed API")]
        accepted, made = EMBEDDINGS.get(target.kind.type, ANY_SERVER).accepts.split(), []
        for name in COHERE_ONLY:
            if name not in body or name in accepted:
                continue
            is_neutral = body.get(name) in _NEUTRAL.get(name, (None,))
            if strict and not is_neutral:
                raise Refusal(f"'{name}' cannot be honoured by {target.name}: {_UNSUPPORTED}.", name, "unsupported_parameter")
            made.append(Adjustment(name, "drop", why="neutral value" if is_neutral else _UNSUPPORTED))
            body.pop(name)
        return made

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        if name.startswith("input") and name[5:6] in ("", "["):
            return self._request.source + name[5:]
        return CALLERS_NAMES.get(name, name)

    def answer(self, answer: bytes) -> bytes:
        """Return Cohere's answer for an embeddings answer."""
        whole, types = _read_answer(answer), self._request.types or ("float",)
        usage = whole.usage or {}
        meta: dict[str, Any] = {"api_version": {"version": self.version}}
        if "prompt_tokens" in usage:
            meta["billed_units"] = {"input_tokens": usage["prompt_tokens"]}
        vectors = {kind: [encode_vector(each.embedding, kind) for each in whole.data] for kind in types}
        is_plain = self.version == "1" and not self._request.types
        translated: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "embeddings": vectors["float"] if is_plain else vectors,
            "texts": self._request.texts if self._request.source == "texts" else [],
            "meta": meta,
            "response_type": "embeddings_floats" if is_plain else "embeddings_by_type",
        }
        if whole.gateway is not msgspec.UNSET:
            translated["gateway"] = whole.gateway
        return _encode(translated)

    def error(self, status: int, body: bytes) -> bytes:
        """Return Cohere's error: an object with `message`."""
        return translate_error(body, self._request_id, self.param)


class EmbedV1Translator(EmbedTranslator):
    """Translates one call of version 1, whose answers are plain lists of vectors unless types are requested."""

    version = "1"


def read_answer(body: bytes) -> Answer:
    """Read an answer; its bytes stay as they are. Raise ValueError for a body that is not an answer with vectors.

    The vectors are in an object by type or, in version 1 without requested types, in a list.
    """
    found = _read_native(body)
    if bytes(memoryview(found.embeddings)[:1]) not in (b"{", b"["):
        raise ValueError("the answer has no vectors")
    return Answer(body, embed_usage(found.meta))


def without_first_version(target: Target) -> str | None:
    """Return the reason why calls of version 1 are translated for a target, or None if they are passed unchanged."""
    if first_version(base_path(target.base_url)) is None:
        return "the base_url of the provider does not end in /v2, so the address of version 1 is unknown"
    return None


def unsuited(body: Body) -> str | None:
    """Return the reason why a request is translated, or None. A request with more inputs than Cohere accepts is sent in parts."""
    most = EMBEDDINGS["cohere"].max_inputs
    for name in ("texts", "inputs"):
        given = body.get(name)
        if most is not None and type(given) is list and len(given) > most:
            return f"the provider accepts at most {most} inputs in one request"
    return None


def _no_stream() -> EventReader:
    raise NotImplementedError("embeddings are not streamed")


NATIVE_V1 = NativeApi(
    operation="cohere_embed_v1",
    fields=FIELDS_V1,
    output_cap="",
    headers=(),
    read_answer=read_answer,
    new_reader=_no_stream,
    unsuited=unsuited,
    unsuited_target=without_first_version,
)
NATIVE = NativeApi(
    operation=NATIVE_OPERATION,
    fields=FIELDS,
    output_cap="",
    headers=(),
    read_answer=read_answer,
    new_reader=_no_stream,
    unsuited=unsuited,
)
