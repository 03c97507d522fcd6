"""Passed calls on their way through the hooks.

The texts of JSON requests, and those of JSON answers, event streams and plain-text answers, pass through the hooks. A hook cannot read
any other content. If a hook that reads contents has `failure: closed`, a request or an answer with other content is refused; an answer
without text, such as audio, passes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.errors import BadRequest, GatewayError, Headers, RequestTooLarge, unreadable
from gateway.hooks.run import HookRun, Pieces
from gateway.hooks.stream import HookedEvents
from gateway.passthrough.caller import CallerBody
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES
from providers.base import Adjustment, Body, Refusal, Target, WireRequest

MAX_HOOKED_BODY = 32 << 20
"""Maximum size of a request body that passes through hooks, because such a body is kept in memory."""
_NAME = "body"
_LINES = frozenset({
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines",
    "application/x-jsonl", "application/json-lines", "application/stream+json",
})  # fmt: skip
"""Types of streams with one JSON value in each line."""
_TEXTS = frozenset({"application/xml", "application/yaml", "application/x-yaml", "application/javascript"})
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
_MEDIA = ("audio/", "image/", "video/", "font/")
"""Types of answers without text."""
_REFRAMED = frozenset({b"content-length", b"transfer-encoding", b"etag", b"content-md5", b"digest"})


class AnswerFilter(Protocol):
    """Passes the pieces of one answer through the hooks."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is sent before the end, so that a refusal can be an HTTP error."""
        ...

    async def feed(self, piece: bytes) -> bytes:
        """Return the bytes to send for a piece."""
        ...

    async def end(self, piece: bytes) -> bytes:
        """Return the last bytes to send, for the last piece."""
        ...

    async def broken(self) -> bytes:
        """Return the last bytes to send if the provider breaks off its answer."""
        ...


async def hook_passed_request(run: HookRun, request: WireRequest, body: CallerBody, target: Target) -> list[Adjustment]:
    """Read the body of a passed call, and put it into the request as the hooks change it. Return the adjustments.

    Raise GatewayError if a hook refuses the request, if the body is too large or is invalid JSON, or if no hook can read the body and a
    hook that reads contents has `failure: closed`.
    """
    request.headers = [each for each in request.headers if each[0] != "accept-encoding"]
    data = await _read(body)
    kind = next((value for name, value in request.headers if name == "content-type"), "")
    if data and not _is_json(kind):
        if run.set.refuses_unreadable:
            bare = kind.partition(";")[0]
            what = f"a body of the type '{bare[:80]}'" if bare else "a body without a content type"
            message = f"The hooks of this gateway cannot read {what}. Send JSON, or use a path without this body."
            raise BadRequest(message, code="content_unreadable", status=415)
    elif data:
        try:
            msgspec.json.decode(data)  # otherwise a part after the first value would be lost
            whole = Body(b'{"%b":%b}' % (_NAME.encode(), data))
            await run.request([whole])
        except (msgspec.DecodeError, RecursionError) as error:
            raise unreadable(error) from None
        data = whole.raw(_NAME) or data
    request.body = data
    made = await hook_passed_target(run, request, target)
    return [*run.adjustments, *made]


async def hook_passed_target(run: HookRun, request: WireRequest, target: Target) -> list[Adjustment]:
    """Pass the target of a call or of a WebSocket connection through the hooks, and add their headers. Return the adjustments.

    Raise GatewayError if a hook refuses the call or skips the target, because a passed path has no other target.
    """
    shell = Body(b"{}")
    try:
        made = await run.target(target, shell)
    except Refusal as refusal:
        raise BadRequest(refusal.message, code=refusal.code) from None
    request.headers = run.arrange([*request.headers, *shell.headers.items()])
    return made


def hooked_headers(headers: Headers) -> Headers:
    """Return those headers of an answer that are still correct if the hooks change its body."""
    return [(name, value) for name, value in headers if name not in _REFRAMED]


def answer_filter(run: HookRun | None, headers: Headers, status: int) -> AnswerFilter | None:
    """Return the filter of an answer, or None if no hook follows the answer, or if no hook can read it or has to.

    Raise GatewayError if the provider compressed the answer, or if no hook can read its type and a hook that reads contents has
    `failure: closed`.
    """
    if run is None or not run.follows_answer or status in (204, 304):
        return None
    kind = next((value for name, value in headers if name == b"content-type"), b"").decode("latin-1").lower()
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise GatewayError("The provider compressed its answer, so no hook can read it.", status=502, code="upstream_bad_response")
    bare, charset = _type_of(kind)
    if bare == "text/event-stream" or bare in _LINES:
        return _Events(HookedEvents(run, Pieces(), holds_start=False, is_lines=bare in _LINES))
    if _is_json(kind):
        return _WholeAnswer(run, is_json=True)
    if (bare.startswith("text/") or bare in _TEXTS or bare.endswith("+xml")) and charset in _CHARSETS:
        return _WholeAnswer(run, is_json=False)
    is_empty = any(name == b"content-length" and value == b"0" for name, value in headers)
    if not is_empty and not bare.startswith(_MEDIA) and bare != "application/octet-stream":
        run.note_unreadable(f"an answer of the type '{bare[:80]}'" if bare else "an answer without a content type")
    return None


class _Events:
    """A stream of events, each of which is sent as soon as it has passed through the hooks."""

    is_whole = False

    def __init__(self, events: HookedEvents) -> None:
        self.feed = events.feed
        self.end = events.end
        self.broken = events.broken


class _WholeAnswer:
    """An answer that is collected and passes through the hooks as a whole."""

    is_whole = True

    def __init__(self, run: HookRun, *, is_json: bool) -> None:
        self._run = run
        self._is_json = is_json
        self._parts: list[bytes] = []
        self._size = 0

    async def feed(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            raise GatewayError("The answer is too large for hooks.", status=502, code="upstream_bad_response")
        self._parts.append(piece)
        return b""

    async def end(self, piece: bytes) -> bytes:
        data = b"".join([*self._parts, piece])
        if not data:
            return b""
        if not self._is_json:
            text = data.decode("utf-8", "replace")
            return (await self._run.piece(_NAME, "text", text, is_last=True, pieces=Pieces())).encode()
        try:
            whole = Body(await self._run.answer(b'{"%b":%b}' % (_NAME.encode(), data), Pieces()))
        except (msgspec.DecodeError, RecursionError):
            self._run.note_unreadable("an answer that is not JSON")
            return data
        return whole.raw(_NAME) or data

    async def broken(self) -> bytes:
        return b""


def _type_of(kind: str) -> tuple[str, str]:
    """Return a content type without parameters and its charset, both in lower case. The charset is "" if there is none."""
    bare, *parameters = (part.strip() for part in kind.lower().split(";"))
    charsets = [value.strip("\"'") for name, _, value in (part.partition("=") for part in parameters) if name.strip() == "charset"]
    return bare, charsets[0].strip() if charsets else ""


def _is_json(kind: str) -> bool:
    bare = _type_of(kind)[0]
    return bare not in _LINES and (bare == "application/json" or bare.endswith("+json"))


async def _read(body: CallerBody) -> bytes:
    parts: list[bytes] = []
    while piece := await body.read():
        parts.append(piece)
        if body.size > MAX_HOOKED_BODY:
            raise RequestTooLarge(MAX_HOOKED_BODY)
    return b"".join(parts)
