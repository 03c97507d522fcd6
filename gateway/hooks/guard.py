"""The HTTP guard: asks a service whether the texts of requests and answers may pass.

A question in the format `webhook` has the texts with their places, and the service answers with an action. In the format
`moderations`, the texts are the `input` of OpenAI's moderations API, and the call is refused if a text is flagged. The service gets
the texts as the hooks that run before the guard return them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec

from gateway.config.hook import GuardConfig
from gateway.hooks.api import CallFacts, Change, Chunk, Emit, Hook, Refuse, Request, Text

DEFAULT_MESSAGE = "The guard of this gateway refused the call."
MAX_MESSAGE_CHARS = 500

Post = Callable[[bytes], Awaitable[bytes]]
_encode = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct, frozen=True):
    """The answer of a service in the format `webhook`. `texts` has the new texts by path, for the action `replace`."""

    action: Literal["allow", "refuse", "replace"]
    message: str = ""
    texts: dict[str, str] = {}


class ModerationResult(msgspec.Struct, frozen=True):
    """The result for one text in the format `moderations`."""

    flagged: bool
    categories: dict[str, bool | None] = {}


class Moderation(msgspec.Struct, frozen=True):
    """The answer of a service in the format `moderations`."""

    results: list[ModerationResult]


_read_verdict = msgspec.json.Decoder(Verdict).decode
_read_moderation = msgspec.json.Decoder(Moderation).decode


class Guard(Hook):
    """Asks the service that its configuration names."""

    def __init__(self, config: GuardConfig, post: Post) -> None:
        """`post` sends a question and returns the body of a successful answer. It raises an exception for any other answer."""
        self._config = config
        self._post = post

    async def request(self, request: Request) -> Change | Refuse | None:
        """Return the decision on a request."""
        texts = [each for each in request.texts if each.kind != "other" or " " in each.text.strip()]
        if "input" not in self._config.checks or not texts:
            return None
        verdict = await self._decide("request", request.call, texts)
        if verdict.action == "replace":
            paths = {each.path for each in texts}
            return Change({path: text for path, text in verdict.texts.items() if path in paths}, verdict.message)
        return _refusal(verdict)

    def follows(self, state: dict[str, Any]) -> bool:
        """Return whether answers are checked."""
        return "output" in self._config.checks

    async def chunk(self, chunk: Chunk) -> Emit | Refuse | None:
        """Return the decision on a piece of the answer. Hold back the pieces of a stream until they fill the window."""
        text, before = chunk.text, chunk.before[-self._config.window :]
        if not chunk.is_last and len(text) < self._config.window:
            return Emit("", text)
        if not text.strip():
            return Emit(text)
        verdict = await self._decide("answer", chunk.call, [Text(chunk.channel, text, chunk.kind)], before)
        if verdict.action == "replace":
            new = verdict.texts.get(chunk.channel, text)
            return Emit(new, why=verdict.message or "the guard replaced the text" if new != text else "")
        return _refusal(verdict) or Emit(text)

    async def _decide(self, point: str, call: CallFacts, texts: Sequence[Text], before: str = "") -> Verdict:
        if self._config.format == "moderations":
            model = {"model": self._config.model} if self._config.model is not None else {}
            question: dict[str, Any] = {**model, "input": [before + each.text for each in texts]}
            results = _read_moderation(await self._post(_encode(question))).results
            if len(results) != len(texts):
                raise ValueError("the guard returned the wrong number of results")
            named = sorted({name for each in results if each.flagged for name, is_hit in each.categories.items() if is_hit})
            if not any(each.flagged for each in results):
                return Verdict("allow")
            return Verdict("refuse", f"The guard of this gateway flagged the text: {', '.join(named)}." if named else DEFAULT_MESSAGE)
        question = {"point": point, "call": call, "texts": texts, **({"before": before} if before else {})}
        return _read_verdict(await self._post(_encode(question)))


def _refusal(verdict: Verdict) -> Refuse | None:
    if verdict.action != "refuse":
        return None
    return Refuse(verdict.message[:MAX_MESSAGE_CHARS] or DEFAULT_MESSAGE, code="content_refused")
