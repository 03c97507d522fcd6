"""A stream that breaks after its first content goes on at another target, where `continue_on_cut` asks for it.

    Spoken.heard       every event that went to the caller: the text so far, and whether it is one that another model can go on with
    Spoken.followers   who can say the rest: targets that take the beginning of an answer
    Spoken.continued   the request for the rest: what was said as the beginning of the answer, and what is left of the output limit
    Rest               the rest's chunks as those of the first stream: its identity, no second role, nothing said twice at the seam

Only one choice of plain text is gone on with: no tool call or reasoning under way, no JSON (a grammar knows nothing of a beginning).
The text goes without its trailing white space, which some servers refuse and others trim; what of it comes again is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import usage as accounting
from gateway.call import Aside
from gateway.dialects import goodfire
from gateway.streams.chunk_filter import ChunkFilter
from providers.base import Body, Failure, StreamDecoder, Target, Usage

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.catalog.prices import TokenPrice
    from gateway.targets.backend import Candidate

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_SILENT: tuple[Any, ...] = (None, "", [], {})
_GRAMMARS = frozenset({
    "ebnf", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "json_schema", "regex", "structured_outputs",
})  # fmt: skip
"""Parameters of servers that hold an answer to a grammar."""
_LAST = frozenset({"limit", "timeout", "client_error"})
"""Failures after which no target would say the rest: the stream was long enough, or its time is up."""


class _Spoken(msgspec.Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None


class _Heard(msgspec.Struct):
    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_Spoken] = []


_decode_heard = msgspec.json.Decoder(_Heard).decode


class Splice(msgspec.Struct, frozen=True):
    """Where the rest of an answer comes from: so many characters in, this target goes on."""

    at: int
    target: str


class Spoken:
    """What the caller of one stream has been told so far."""

    __slots__ = ("_plain", "_price", "_text", "identity", "splices", "used")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._plain = True
        self._price: TokenPrice | None = None
        self.identity: dict[str, Any] = {}
        """Id, creation and model of the first chunk, which all others repeat."""
        self.splices: list[Splice] = []
        self.used: list[Usage] = []
        """What each attempt used that broke."""

    @property
    def text(self) -> str:
        """All of the answer's text that was sent."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def size(self) -> int:
        """Its characters."""
        return len(self.text)

    def heard(self, events: bytes) -> None:
        """Events that went to the caller."""
        for event in events.split(b"\n\n"):
            if not event or not self._plain:
                continue
            try:
                chunk = _decode_heard(event[len(b"data: ") :])
            except msgspec.DecodeError:
                self._plain = False
                return
            if not self.identity and chunk.choices:
                self.identity = {"id": chunk.id, "created": chunk.created, "model": chunk.model}
            for choice in chunk.choices:
                self._note(choice)

    def _note(self, choice: _Spoken) -> None:
        delta = choice.delta or {}
        content = delta.get("content")
        if isinstance(content, str) and content:
            self._text.append(content)
        said = any(value not in _SILENT for name, value in delta.items() if name not in ("role", "content"))
        if said or choice.index or choice.finish_reason:
            self._plain = False

    def set_aside(self, call: Call) -> None:
        """An attempt broke: what it used so far is billed apart from what the rest will use."""
        accounting.settle(call)
        if call.usage is not None and call.target is not None:
            self.used.append(call.usage)
            self._price = call.price
            call.asides.append(Aside(call.target.name, call.usage, accounting.own_cost(call)))
        call.usage, call.chunks = None, 0

    def take_back(self, call: Call, target: Target | None) -> None:
        """Nobody said the rest: the call is what its broken attempt at `target` was."""
        call.usage, call.target, call.price = None, target, self._price
        if self.used:
            call.usage = self.used.pop()
            call.asides = [one for one in call.asides if one.usage is not call.usage]

    def splice(self, target: Target) -> int:
        """The target is about to go on; after how many characters."""
        self.splices.append(Splice(self.size, target.name))
        return self.size

    def followers(self, choices: Sequence[Candidate], broken: Candidate) -> list[Candidate]:
        """Who can say the rest: the choices after the broken one that take a beginning; without any, the broken one, once."""
        names = [choice.backend.target.name for choice in choices]
        name = broken.backend.target.name
        later = choices[names.index(name) + 1 :] if name in names else ()
        after = [choice for choice in later if prefill(choice.backend.target) is not None]
        again = prefill(broken.backend.target) is not None and all(splice.target != name for splice in self.splices)
        return after or ([broken] if again else [])

    def continued(self, body: Body) -> Body:
        """The caller's body with what was said, and with what is left of its output limit."""
        rest = body.copy()
        text = self.text.rstrip()
        if text:
            rest.set("messages", [*body.get("messages"), {"role": "assistant", "content": text}])
        tokens = sum(usage.completion_tokens for usage in self.used)
        for name, least in (("max_tokens", 1), ("max_completion_tokens", 1), ("min_tokens", 0)):
            number = body.get(name)
            if type(number) is int:
                rest.set(name, max(least, number - tokens))
        return rest

    def ask_for_rest(self, body: Body, target: Target) -> None:
        """Have the last message of an adapted body continued rather than answered."""
        if self.text.rstrip():
            for name, value in (prefill(target) or {}).items():
                body.set(name, value)

    def may_go_on(self, failure: Failure) -> bool:
        """Whether a stream that broke so can be gone on with."""
        return self._plain and failure.kind not in _LAST

    def total(self, last: Usage | None) -> Usage | None:
        """What all attempts used together; None when the last one did not say and nothing broke."""
        if not self.used:
            return last
        known = [*self.used, *((last,) if last is not None else ())]
        return Usage(
            sum(usage.prompt_tokens for usage in known),
            sum(usage.completion_tokens for usage in known),
            sum(usage.cached_tokens for usage in known),
            sum(usage.reasoning_tokens for usage in known),
            estimated=True,
        )


def listen(call: Call, choices: Sequence[Candidate]) -> Spoken | None:
    """The record of a stream that may be continued; None for calls that are not asked to be, or cannot."""
    body = call.body
    if body is None or not call.stream or call.operation != "chat" or not choices[0].continue_on_cut:
        return None
    format = body.get("response_format") or {}
    messages = body.get("messages")
    plain = (body.get("n") or 1) == 1 and format.get("type", "text") == "text" and not call.path.startswith(goodfire.PATH_PREFIX)
    return Spoken() if plain and _GRAMMARS.isdisjoint(body) and messages and messages[-1].get("role") != "assistant" else None


def prefill(target: Target) -> Mapping[str, Any] | None:
    """What a request to the target has besides an assistant message at its end to have that one continued; None: it cannot."""
    return target.kind.prefill


class Rest(ChunkFilter):
    """A stream decoder after `inner` (if any): its chunks go on where the first stream broke."""

    def __init__(self, inner: StreamDecoder | None, spoken: Spoken) -> None:
        super().__init__(inner)
        self._identity = spoken.identity
        text = spoken.text
        self._again = text[len(text.rstrip()) :]
        """White space that was sent already and may come again."""

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if chunk.get("error") or chunk.get("object") == "error":
            return (data,)
        chunk |= {name: value for name, value in self._identity.items() if value is not None}
        if choices:
            chunk["choices"] = kept = [choice for choice in choices if self._seam(choice)]
            if not kept and not chunk.get("usage"):
                return ()
        return (_encode(chunk),)

    def _seam(self, choice: dict[str, Any]) -> bool:
        """Leave out of a choice what the caller has already; whether anything is left of it."""
        delta = {name: value for name, value in (choice.get("delta") or {}).items() if name != "role"}
        content = delta.get("content")
        if isinstance(content, str) and content and self._again:
            delta["content"] = self._skip(content)
        choice["delta"] = delta
        return choice.get("finish_reason") is not None or any(value not in _SILENT for value in delta.values())

    def _skip(self, content: str) -> str:
        at = 0
        while at < min(len(content), len(self._again)) and content[at] == self._again[at]:
            at += 1
        self._again = self._again[at:] if at == len(content) else ""
        return content[at:]
