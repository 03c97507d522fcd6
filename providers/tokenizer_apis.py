"""The tokenizer endpoints of servers that run a model. These endpoints count a prompt as the model reads it.

Sources: vLLM entrypoints/serve/tokenize/protocol.py (commit 030ea52); llama.cpp tools/server/README.md (commit 00dc805), also
for the local engine (xllamacpp 2026.10.11549); as of 2026-11-28.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Protocol

import msgspec

from providers.base import Body, Options, Target, WireRequest

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Tokens(msgspec.Struct, frozen=True):
    """The token ids of a prompt, their texts if requested, and the model's context window if known."""

    ids: list[int]
    texts: list[str] | None = None
    window: int | None = None


class Asked(msgspec.Struct, frozen=True):
    """The input: `text`, or else the messages of an adapted chat body. None in the last two fields stands for the default."""

    text: str | None = None
    wants_texts: bool = False
    adds_special: bool | None = None
    begins_answer: bool | None = None
    """Whether the beginning of the answer belongs to the prompt."""


Steps = Generator[WireRequest, bytes, Tokens]
"""Yields requests, receives the body of each answer, and returns the tokens. A wrong answer raises ValueError, TypeError or LookupError."""


class TokenizerApi(Protocol):
    """The tokenizer endpoints of one kind of server. They do no I/O."""

    def tokenize(self, asked: Asked, body: Body, target: Target) -> Steps:
        """Return the requests that tokenize a text or the messages of `body`."""
        ...

    def detokenize(self, ids: list[int], body: Body, target: Target) -> WireRequest:
        """Return the request that turns token ids into text."""
        ...

    def read_text(self, answer: bytes) -> str:
        """Return the text of an answer to `detokenize`. Raise ValueError or LookupError for a wrong answer."""
        ...


def _request(body: Body, target: Target, path: str, content: dict[str, Any]) -> WireRequest:
    """Return a request to a path of the server's root, with the headers of a chat call."""
    request = target.kind.encode(body.copy(), target, Options())
    root = request.path.removesuffix("/chat/completions").removesuffix("/v1")
    headers = [pair for pair in request.headers if pair[0] not in body.headers]  # hooks may replace any header
    return WireRequest(root + path, [*headers, *body.headers.items()], _encode(content))


class Vllm:
    """vLLM: one request, with the chat template applied."""

    def tokenize(self, asked: Asked, body: Body, target: Target) -> Steps:
        """Return the request that tokenizes a text or messages."""
        content: dict[str, Any] = {"model": target.model, "return_token_strs": asked.wants_texts}
        if asked.text is not None:
            content["prompt"] = asked.text
        else:
            names = ("messages", "tools", "chat_template_kwargs", "mm_processor_kwargs")
            content |= {name: body.get(name) for name in names if name in body}
        if asked.adds_special is not None:
            content["add_special_tokens"] = asked.adds_special
        if asked.begins_answer is not None:
            content["add_generation_prompt"] = asked.begins_answer
        answer = _decode((yield _request(body, target, "/tokenize", content)))
        window, texts = answer.get("max_model_len"), answer.get("token_strs")
        return Tokens(_ids(answer["tokens"]), texts if asked.wants_texts else None, window if type(window) is int else None)

    def detokenize(self, ids: list[int], body: Body, target: Target) -> WireRequest:
        """Return the request."""
        return _request(body, target, "/detokenize", {"model": target.model, "tokens": ids})

    def read_text(self, answer: bytes) -> str:
        """Return the text."""
        return str(_decode(answer)["prompt"])


class LlamaCpp:
    """llama.cpp: one request for the chat template, and one for the tokens."""

    def tokenize(self, asked: Asked, body: Body, target: Target) -> Steps:
        """Return the requests that tokenize a text or messages."""
        text, special = asked.text, asked.text is None
        if text is None:
            chat = body.copy()
            if asked.begins_answer is not None:
                chat.set("add_generation_prompt", asked.begins_answer)
            template = _request(body, target, "/apply-template", {})
            template.body = target.kind.encode(chat, target, Options()).body
            text = _decode((yield template))["prompt"]
        adds_special = True if asked.adds_special is None else asked.adds_special
        content = {"content": text, "add_special": adds_special, "parse_special": special, "with_pieces": asked.wants_texts}
        listed = _decode((yield _request(body, target, "/tokenize", content)))["tokens"]
        if not asked.wants_texts:
            return Tokens(_ids(listed))
        return Tokens(_ids([each["id"] for each in listed]), [_piece(each["piece"]) for each in listed])

    def detokenize(self, ids: list[int], body: Body, target: Target) -> WireRequest:
        """Return the request."""
        return _request(body, target, "/detokenize", {"tokens": ids})

    def read_text(self, answer: bytes) -> str:
        """Return the text."""
        return str(_decode(answer)["content"])


def _piece(piece: Any) -> str:
    """Return the text of a token, which llama.cpp sends as bytes if it is not valid UTF-8."""
    return piece if type(piece) is str else bytes(piece).decode(errors="replace")


def _ids(value: Any) -> list[int]:
    if type(value) is not list or not all(type(each) is int for each in value):
        raise ValueError("the answer has no token ids")
    return value


_LLAMA_CPP = LlamaCpp()
TOKENIZER_APIS: Mapping[str, TokenizerApi] = {"vllm": Vllm(), "llamacpp": _LLAMA_CPP, "local": _LLAMA_CPP}
"""The tokenizer endpoints of each type of provider that has them."""
