"""The interface of a hook. A module with hooks of your own needs to import only this module and, in its tests, `testing`.

A hook is an object with some of these four methods, all optional. Each method gets one small struct and returns one of the values
in the last column:

    request   the texts of a request, before routing    Change, Refuse or None
    target    the target of an attempt                  Headers, Skip, Refuse or None
    chunk     a piece of the answer                     Emit, Refuse or None
    settled   the outcome of a call                     None

A result of another type, or with a field of another type, is a failure of the hook, like an exception.

A plain method runs on the event loop: it must be a fast function without I/O. A method that waits is a coroutine
(`async def`). The deadline of the hook applies to both kinds, but only a coroutine can be stopped when it has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from msgspec import Struct

Kind = Literal["text", "reasoning", "arguments", "other"]
"""The kind of a text: text that a person wrote or reads, the reasoning of a model, the arguments of a tool call, or another string."""
Failure = Literal["open", "closed"]
"""The consequence of a hook that fails or misses its deadline: the call continues without the hook, or it ends with an error."""
MAX_BEFORE_CHARS = 4096
MAX_LOOP_CHARS = 16_000
"""Characters of a request or of a piece above which the masker and the deny list work in a thread, so that other calls do not wait."""


class CallFacts(Struct, frozen=True):
    """The facts about a call that are known when its request has been read."""

    id: str
    api: str
    """The path of the request, such as `/v1/chat/completions`."""
    model: str
    """The name of the model that the caller requested; for a passed call, the pattern."""
    key: str = ""
    team: str = ""
    end_user: str = ""
    tags: tuple[str, ...] = ()
    stream: bool = False


class Text(Struct, frozen=True):
    """One string of a request. `path` is its place, such as `messages[0].content`."""

    path: str
    text: str
    kind: Kind = "text"


class Request(Struct, frozen=True):
    """The texts of a request, each once. `state` belongs to this hook and this call, and all points of the call share it."""

    call: CallFacts
    texts: tuple[Text, ...]
    state: dict[str, Any]

    @property
    def is_large(self) -> bool:
        """Whether the texts have more than MAX_LOOP_CHARS characters."""
        return sum(len(each.text) for each in self.texts) > MAX_LOOP_CHARS


class Target(Struct, frozen=True):
    """The target of an attempt. `name` is PROVIDER/MODEL, and `type` is the type of the provider."""

    call: CallFacts
    name: str
    type: str
    state: dict[str, Any]


class Chunk(Struct, frozen=True):
    """A piece of the answer.

    `text` begins with the text that the hook held back at the previous piece of the same channel, and `before` is the end of
    the text that it has sent, at most MAX_BEFORE_CHARS characters. A JSON answer is one piece per text. `channel` names the
    place of the text, such as `choices[0].delta.content`. `is_last` is true for the last piece of a channel, of which nothing
    can be held back.
    """

    call: CallFacts
    channel: str
    kind: Kind
    text: str
    is_last: bool
    state: dict[str, Any]
    before: str = ""


class Settled(Struct, frozen=True):
    """The outcome of a call. `cost_usd` and the counts of tokens are None if they are unknown."""

    call: CallFacts
    status: int
    error: str | None
    """The error code, or None."""
    target: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    seconds: float
    state: dict[str, Any]


class Change(Struct, frozen=True):
    """New texts of a request by path; paths that the request does not have are ignored.

    `why` is the reason on the receipt; it must not contain the old texts.
    """

    texts: Mapping[str, str]
    why: str = ""


class Refuse(Struct, frozen=True):
    """The call ends with this error. `message` must not contain confidential text; `status` is from 400 to 499."""

    message: str
    code: str = "refused_by_hook"
    status: int = 400


class Headers(Struct, frozen=True):
    """Headers of the upstream request, by name. They replace other headers of the same name, the credential of the provider included.

    Headers of the connection, such as `host` and `content-length`, cannot be set.
    """

    values: Mapping[str, str]


class Skip(Struct, frozen=True):
    """The attempt is not sent, and the next target is tried."""

    why: str


class Emit(Struct, frozen=True):
    """The text to send now, and the text to hold back until the next piece of the channel.

    The hook gets `hold` again at the beginning of that piece; for the last piece, it must be empty. If the text to send differs
    from the text received, `why` is the reason on the receipt.
    """

    text: str
    hold: str = ""
    why: str = ""


class Hook:
    """The base class of hooks. It does nothing; a subclass overrides the methods that it needs."""

    failure: ClassVar[Failure] = "closed"
    """The declared consequence of a failure. `failure` in the configuration replaces it."""
    sees_all: ClassVar[bool] = False
    """Whether `chunk` also gets texts of the kind `other`."""

    def request(self, request: Request) -> Any:
        """Check or change the texts of a request. Return Change, Refuse, None or an awaitable of these."""

    def target(self, target: Target) -> Any:
        """Decide on the target of an attempt. Return Headers, Skip, Refuse, None or an awaitable of these."""

    def follows(self, state: dict[str, Any]) -> bool:
        """Return whether `chunk` is to be called for the answer of this call. If no hook follows, the answer is not decoded."""
        return True

    def chunk(self, chunk: Chunk) -> Any:
        """Check or change a piece of the answer. Return Emit, Refuse, None or an awaitable of these. None sends the text as it is."""

    def settled(self, settled: Settled) -> Any:
        """Take note of a finished call. Return None or an awaitable, for which the caller does not wait."""


POINTS = ("request", "target", "chunk", "settled")
