"""A request of the Responses API as a chat completion."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.dialects.plain_request import PlainForm
from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.conversation import Conversation, read_input
from gateway.dialects.responses_api.stored import not_found
from gateway.dialects.responses_api.tools import Tools, read_choice
from gateway.dialects.responses_api.values import (
    ABSENT,
    NULL,
    Raw,
    choice,
    elements,
    encode,
    fields,
    is_absent,
    string,
    text,
    value,
    wrong_type,
)
from gateway.errors import BadRequest, refuse

ECHOED = {
    "instructions": Raw(b"null"),
    "max_output_tokens": Raw(b"null"),
    "max_tool_calls": Raw(b"null"),
    "metadata": Raw(b"{}"),
    "parallel_tool_calls": Raw(b"true"),
    "previous_response_id": Raw(b"null"),
    "prompt_cache_key": Raw(b"null"),
    "reasoning": Raw(b'{"effort":null,"summary":null}'),
    "safety_identifier": Raw(b"null"),
    "store": Raw(b"false"),
    "temperature": Raw(b"null"),
    "text": Raw(b'{"format":{"type":"text"}}'),
    "tool_choice": Raw(b'"auto"'),
    "tools": Raw(b"[]"),
    "top_logprobs": Raw(b"0"),
    "top_p": Raw(b"null"),
    "truncation": Raw(b'"disabled"'),
    "user": Raw(b"null"),
}  # fmt: skip
"""The parameters that every response repeats, with the value for a request that does not set the parameter."""

INSTEAD = MappingProxyType({
    "messages": "input", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format", "reasoning_effort": "reasoning.effort", "verbosity": "text.verbosity",
    "functions": "tools", "function_call": "tool_choice", "logprobs": "include", "n": "", "modalities": "", "audio": "",
    "prediction": "", "web_search_options": "",
})  # fmt: skip
"""Parameters of chat completions that this API does not have, and their replacements ("": none)."""

NOT_SUPPORTED = MappingProxyType({
    "conversation": "use 'previous_response_id', or send the earlier items in 'input'",
    "prompt": "the gateway stores no prompts: send 'instructions' and 'input'",
    "moderation": "the gateway moderates neither input nor output",
})  # fmt: skip
"""Parameters that a chat completion cannot express, with the reason or the advice of the error. Null is accepted."""

_COPIED = (
    "model", "stream", "temperature", "top_p", "user", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier",
)  # fmt: skip
PLAIN = PlainForm(
    parameters={**{name: name for name in _COPIED}, "max_output_tokens": "max_completion_tokens"},
    turns="input",
    read_turns=read_input,
    system="instructions",
    openings={"instructions": b'"'},
    omitted={"store": Raw(b"false")},
)
"""The usual request."""

_NOT_EXPRESSED = frozenset({"unsupported_parameter", "unsupported_content"})
NEVER = frozenset({"background", "conversation", *INSTEAD})
"""Parameters that are also refused at targets that offer this API."""


class InexpressibleError(BadRequest):
    """A chat completion cannot express a part of the request."""


INCLUDABLE = (
    "reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url",
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "code_interpreter_call.outputs", "computer_call_output.output.image_url",
)  # fmt: skip
_OUTLINED = MappingProxyType({
    "model": "model", "stream": "stream", "max_output_tokens": "max_completion_tokens", "user": "user",
    "timeout_microseconds": "timeout_microseconds",
})  # fmt: skip
_LOGPROBS = "message.output_text.logprobs"

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class RequestReader:
    """Translates one request."""

    __slots__ = (
        "_fields", "base", "changes", "chat", "conversation", "earlier", "echo", "given", "input", "model", "summary", "tools",
    )  # fmt: skip

    def __init__(self, *, strict: bool, earlier: Sequence[Raw] | None = None) -> None:
        """`earlier` are the items of the conversation that the request continues; None if it continues none."""
        self.changes = Changes(strict=strict)
        self.conversation = Conversation(self.changes)
        self.tools = Tools(self.changes)
        self.chat: dict[str, Any] = {}
        self.echo = ECHOED.copy()
        """The parameters that every response repeats."""
        self._fields: dict[str, Raw] = {}
        self.given: frozenset[str] = frozenset()
        """The names of the caller's parameters."""
        self.earlier = earlier
        self.input = ABSENT
        self.base = ""
        """The part that all ids of a stored response have in common. "" for other responses, which use the provider's id."""
        self.model = Raw(b"null")
        self.summary = False
        """Whether the caller asked for a summary of the reasoning."""

    def read(self, source: bytes) -> bytes:
        """Return the body of the chat completion. Raise BadRequest for the first invalid field.

        Raise InexpressibleError for a field that only a target with this API can honour. A body that is not a JSON object
        is returned as it is and refused later.
        """
        try:
            given = _decode_fields(source)
        except (msgspec.DecodeError, RecursionError):
            return source
        self.given, self._fields, self.input = frozenset(given), given, given.get("input", ABSENT)
        try:
            return self._read(given)
        except BadRequest as error:
            if error.code in _NOT_EXPRESSED and error.param not in NEVER:
                raise InexpressibleError(error.message, param=error.param, code=error.code) from None
            raise

    def outline(self) -> bytes:
        """Return a chat completion for routing, limits and counts only, with the JSON of the input as its text."""
        given, texts = self._fields, [*(self.earlier or ()), self.input]
        content = Raw(encode("".join(bytes(text).decode() for text in (given.get("instructions", ABSENT), *texts))))
        chat: dict[str, Any] = {"messages": [{"role": "user", "content": content}]}
        for name, chat_name in _OUTLINED.items():
            if name in given:
                chat[chat_name] = given[name]
        return encode(chat)

    def _read(self, given: dict[str, Raw]) -> bytes:
        if not is_absent(instructions := given.get("instructions", ABSENT)):
            self.conversation.add_instructions(instructions)
        if "model" in given:
            self.chat["model"] = self.model = given["model"]
        for name, raw in given.items():
            if name in ECHOED and raw != NULL:
                self.echo[name] = raw
            read = READERS.get(name)
            if read is not None:
                if raw != NULL:
                    read(self, raw)
            elif name in INSTEAD:
                instead = f": use '{INSTEAD[name]}'" if INSTEAD[name] else ""
                raise refuse(name, f"'{name}' is not a parameter of this API{instead}.", "unsupported_parameter")
            elif name in NOT_SUPPORTED:
                if raw != NULL:
                    raise refuse(name, f"'{name}' is not supported: {NOT_SUPPORTED[name]}.", "unsupported_parameter")
            elif name not in ("input", "instructions", "model"):
                self.chat[name] = raw
        self.conversation.add_input(self.input, self.earlier or ())
        self.chat["messages"] = self.conversation.messages
        return encode(self.chat)

    def _max_output_tokens(self, raw: Raw) -> None:
        self.chat["max_completion_tokens"] = raw

    def _max_tool_calls(self, raw: Raw) -> None:
        if type(value("max_tool_calls", raw)) is not int:
            raise wrong_type("max_tool_calls", "an integer")
        self.changes.without_loss("max_tool_calls", "it applies to hosted tools, which are not offered")

    def _metadata(self, raw: Raw) -> None:
        """Check the metadata, which is repeated in the response and left out of the chat completion."""
        for name, text_ in fields("metadata", raw).items():
            string(f"metadata.{name[:64]}", text_)

    def _stream_options(self, raw: Raw) -> None:
        options = fields("stream_options", raw)
        if bytes(options.get("include_obfuscation", b"")) == b"true":
            self.changes.loss("stream_options.include_obfuscation", "the gateway does not pad its events")

    def _store(self, raw: Raw) -> None:
        if _boolean("store", raw):
            self.base = os.urandom(16).hex()

    def _previous_response_id(self, raw: Raw) -> None:
        previous = text("previous_response_id", raw)
        if self.earlier is None:
            raise not_found(previous)

    def _background(self, raw: Raw) -> None:
        if _boolean("background", raw):
            why = "the gateway answers within the call"
            raise refuse("background", f"'background: true' is not supported: {why}.", "unsupported_parameter")

    def _truncation(self, raw: Raw) -> None:
        wanted = choice("truncation", raw, ("auto", "disabled"))
        self.chat["context_length_exceeded_behavior"] = "truncate" if wanted == "auto" else "error"

    def _include(self, raw: Raw) -> None:
        for index, one in enumerate(elements("include", raw)):
            if choice(f"include[{index}]", one, INCLUDABLE) == _LOGPROBS:
                self.chat["logprobs"] = True

    def _top_logprobs(self, raw: Raw) -> None:
        if bytes(raw) != b"0":
            self.chat["top_logprobs"] = raw
            self.chat["logprobs"] = True

    def _reasoning(self, raw: Raw) -> None:
        asked = {name: member for name, member in fields("reasoning", raw).items() if not is_absent(member)}
        if "effort" in asked:
            self.chat["reasoning_effort"] = string("reasoning.effort", asked.pop("effort"))
        for name in ("summary", "generate_summary"):
            if name in asked:
                self.summary = True
                if choice(f"reasoning.{name}", asked.pop(name), ("auto", "concise", "detailed")) != "auto":
                    self.changes.loss(
                        f"reasoning.{name}",
                        "the summary is the reasoning as the provider returns it",
                        "downgrade",
                        to="auto",
                    )
        for name, member in asked.items():
            if bytes(member) not in (b'"auto"', b'"standard"'):
                self.changes.loss(f"reasoning.{name}", "a chat completion has no such setting")

    def _text(self, raw: Raw) -> None:
        settings = fields("text", raw)
        if not is_absent(verbosity := settings.get("verbosity", ABSENT)):
            self.chat["verbosity"] = string("text.verbosity", verbosity)
        if is_absent(settings.get("format", ABSENT)):
            return
        form = fields("text.format", settings["format"])
        kind = text("text.format.type", form.get("type", ABSENT))
        if kind == "json_schema":
            schema = {name: member for name, member in form.items() if name != "type" and not is_absent(member)}
            string("text.format.name", schema.get("name", ABSENT))
            fields("text.format.schema", schema.get("schema", ABSENT))
            self.chat["response_format"] = {"type": kind, "json_schema": schema}
        elif kind != "text":
            self.chat["response_format"] = form

    def _tools(self, raw: Raw) -> None:
        self.chat["tools"] = self.tools.read(raw)

    def _tool_choice(self, raw: Raw) -> None:
        self.chat["tool_choice"] = read_choice(raw)

    def _client_metadata(self, raw: Raw) -> None:
        """Leave out `client_metadata`, in which Codex describes the client."""
        fields("client_metadata", raw)
        self.changes.without_loss("client_metadata", "it describes the caller to OpenAI")

    def _context_management(self, raw: Raw) -> None:
        if elements("context_management", raw):
            self.changes.loss("context_management", "the gateway does not compact conversations")


def _boolean(param: str, raw: Raw) -> bool:
    if bytes(raw) not in (b"true", b"false"):
        raise wrong_type(param, "a boolean")
    return bytes(raw) == b"true"


READERS: dict[str, Callable[[RequestReader, Raw], None]] = {
    "max_output_tokens": RequestReader._max_output_tokens,
    "max_tool_calls": RequestReader._max_tool_calls,
    "metadata": RequestReader._metadata,
    "stream_options": RequestReader._stream_options,
    "store": RequestReader._store,
    "previous_response_id": RequestReader._previous_response_id,
    "background": RequestReader._background,
    "truncation": RequestReader._truncation,
    "include": RequestReader._include,
    "top_logprobs": RequestReader._top_logprobs,
    "reasoning": RequestReader._reasoning,
    "text": RequestReader._text,
    "tools": RequestReader._tools,
    "tool_choice": RequestReader._tool_choice,
    "client_metadata": RequestReader._client_metadata,
    "context_management": RequestReader._context_management,
}
