"""The hooks of one configuration, and their run for one call.

A hook that fails or misses its deadline is counted and reported. If it is declared `closed`, the call then ends with
`hook_failed`; if it is `open`, the call continues as if the hook had returned None.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.errors import BadRequest, GatewayError, Unavailable
from gateway.hooks.api import (
    MAX_BEFORE_CHARS,
    MAX_LOOP_CHARS,
    CallFacts,
    Chunk,
    Failure,
    Headers,
    Hook,
    Kind,
    Refuse,
    Request,
    Settled,
    Skip,
    Target,
    Text,
)
from gateway.hooks.results import check_result, is_failure
from gateway.hooks.walk import Leaf, has_token_ids, leaves, repeats_names, replaced, without_logprobs
from gateway.metrics import Metrics
from providers.base import Adjustment, Body, Refusal
from providers.base import Target as UpstreamTarget

MAX_WHY_CHARS = 500
"""Maximum length of a hook's reason on the receipt, which repeats it for each text."""
MAX_NOTES = 1000
"""Maximum number of changes to one answer on the receipt."""
TOKEN_FIELDS = ("input", "prompt")

Report = Callable[[str], None]


class LoadedHook(NamedTuple):
    """A hook with its settings. `points` are the names of the methods that it overrides."""

    name: str
    hook: Hook
    deadline_s: float
    failure: Failure
    points: frozenset[str]


class HookSet:
    """The hooks of one configuration, in their order."""

    def __init__(self, hooks: Sequence[LoadedHook], metrics: Metrics, report: Report) -> None:
        """`report` receives one line for each failure of a hook; the line contains no text of a call."""
        self.hooks = tuple(hooks)
        self.metrics = metrics
        self.report = report
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def refuses_unreadable(self) -> bool:
        """Whether content that no hook can read is refused, because a hook that reads contents has `failure: closed`."""
        return any(each.failure == "closed" and each.points & {"request", "chunk"} for each in self.hooks)

    def begin(self, facts: CallFacts) -> HookRun:
        """Return the run of the hooks for one call."""
        return HookRun(self, facts)

    async def ask(self, loaded: LoadedHook, point: str, value: Any) -> Any:
        """Return the result of one hook at one point. Raise GatewayError for a refusal.

        If the hook fails, return None if it is declared `open` or if the point is `settled`, and raise GatewayError otherwise.
        """
        began = time.monotonic()
        try:
            result = getattr(loaded.hook, point)(value)
            if inspect.isawaitable(result):
                async with asyncio.timeout(loaded.deadline_s):
                    result = await result
            elif time.monotonic() - began > loaded.deadline_s:
                raise TimeoutError
            check_result(point, value, result)
        except GatewayError:
            raise
        except BaseException as error:
            self._fail(loaded, point, error)
            return None
        if isinstance(result, Refuse):
            self.metrics.count("lockgate_hook_refusals", (loaded.name, point))
            raise BadRequest(result.message, code=result.code, status=result.status)
        return result

    def follows(self, loaded: LoadedHook, state: dict[str, Any]) -> bool:
        """Return whether a hook is called for the pieces of the answer. If it fails, return False or raise GatewayError, as for a point."""
        if "chunk" not in loaded.points:
            return False
        try:
            result: object = loaded.hook.follows(state)
            if type(result) is bool:
                return result
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("'follows' must not be a coroutine")
            return bool(result)
        except BaseException as error:
            self._fail(loaded, "chunk", error)
            return False

    def settle(self, run: HookRun, outcome: Callable[[dict[str, Any]], Settled]) -> None:
        """Report the outcome of a call to the hooks, without waiting for them."""
        for loaded, state in zip(self.hooks, run.states, strict=True):
            if "settled" in loaded.points:
                task = asyncio.get_running_loop().create_task(self.ask(loaded, "settled", outcome(state)), name="hook")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _fail(self, loaded: LoadedHook, point: str, error: BaseException) -> None:
        """Count and report a failure. Raise GatewayError if the call must not continue, and `error` if it is not the hook that failed."""
        if not is_failure(error):
            raise error
        self._note_failure(loaded, point, error)
        if loaded.failure == "closed" and point != "settled":
            message = f"The hook '{loaded.name}' failed, and calls must not continue without it. The gateway's log has the reason."
            raise Unavailable(message, code="hook_failed") from None

    def _note_failure(self, loaded: LoadedHook, point: str, error: BaseException) -> None:
        """Count and report a failure. The text of the error may quote a call, so only its type and place are reported."""
        reason = "deadline" if isinstance(error, TimeoutError) else "error"
        self.metrics.count("lockgate_hook_failures", (loaded.name, point, reason))
        frames = inspect.getinnerframes(error.__traceback__, context=0) if error.__traceback__ is not None else []
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        what = f"missed its deadline of {loaded.deadline_s:g}s" if reason == "deadline" else f"failed with {type(error).__name__}"
        self.report(f"hooks: '{loaded.name}' {what} at its point '{point}' ({place})")


class Pieces:
    """The texts of one answer that the hooks hold back, and the changes that they have made to it."""

    __slots__ = ("_known", "held", "notes", "sent")

    def __init__(self) -> None:
        self.held: dict[tuple[int, str], str] = {}
        self.sent: dict[tuple[int, str], str] = {}
        """For each hook and channel, the end of the text that the hook has passed on."""
        self.notes: list[Adjustment] = []
        self._known: set[tuple[str, str]] = set()

    def note(self, note: Adjustment) -> None:
        """Add a change, unless it is known or MAX_NOTES changes are."""
        known = note.param, note.why
        if known not in self._known and len(self.notes) < MAX_NOTES:
            self._known.add(known)
            self.notes.append(note)


class HookRun:
    """The run of the hooks for one call."""

    def __init__(self, hooks: HookSet, facts: CallFacts) -> None:
        self.set = hooks
        self.facts = facts
        self.states: list[dict[str, Any]] = [{} for _ in hooks.hooks]
        self.adjustments: list[Adjustment] = []
        """The changes to the request."""
        self._final: dict[str, str] = {}
        """The text that replaces each text of the request that has been seen; most are their own replacement."""
        self._has_reported = False
        self.header_names: set[str] = set()
        """The names of the headers that hooks have set, in lower case."""
        self.rest: Callable[[], Awaitable[bytes]] | None = None
        """Returns the events with the texts that the hooks hold back in the stream that the caller gets."""
        self.pieces: Pieces | None = None
        """The pieces of the stream that the caller gets, which another target may continue."""

    async def request(self, bodies: Sequence[Body], *, is_noted: bool = True) -> None:
        """Run the point `request` for the texts of these bodies, which state the same request, and change the bodies.

        If `is_noted`, the changes are recorded as adjustments. Raise GatewayError for a refusal.
        """
        places: dict[str, list[Leaf]] = {}
        for at, body in enumerate(bodies):
            self._check_names(body)
            for leaf in self._leaves_of(body):
                if leaf.text not in self._final and (at == 0 or leaf.text not in places):
                    places.setdefault(leaf.text, []).append(leaf)
        current = {leaf.text: leaf for first in places.values() for leaf in first[:1]}
        changed = {text: text for text in current}
        paths = _distinct_paths(current)
        for loaded, state in zip(self.set.hooks, self.states, strict=True):
            if "request" not in loaded.points or not current:
                continue
            texts = tuple(Text(paths[text], changed[text], leaf.kind) for text, leaf in current.items())
            change = await self.set.ask(loaded, "request", Request(self.facts, texts, state))
            if change is None:
                continue
            for text in current:
                new = change.texts.get(paths[text])
                if new is not None and new != changed[text]:
                    changed[text] = new
                    if is_noted:
                        self.adjustments += [_note(loaded, place.path, change.why) for place in places[text]]
        self._final |= changed | {new: new for new in changed.values()}
        for body in bodies:
            self._rewrite(body)

    async def target(self, target: UpstreamTarget, body: Body) -> list[Adjustment]:
        """Run the point `target` for the body of an attempt. Return the adjustments. Raise Refusal to try the next target.

        Texts that only this attempt has, such as the earlier turns of a stored conversation, first pass the point `request`.
        """
        await self.request([body], is_noted=False)
        made: list[Adjustment] = []
        for loaded, state in zip(self.set.hooks, self.states, strict=True):
            if "target" not in loaded.points:
                continue
            result = await self.set.ask(loaded, "target", Target(self.facts, target.name, target.kind.type, state))
            if isinstance(result, Skip):
                raise Refusal(f"The hook '{loaded.name}' does not allow {target.name}: {result.why}", None, "refused_by_hook")
            if isinstance(result, Headers):
                values = {name.lower(): value for name, value in result.values.items()}
                body.headers |= values
                self.header_names |= values.keys()
                made += [_note(loaded, name, "the hook sets this header") for name in values]
        return made

    def arrange(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers of an upstream request, in which a header that a hook sets replaces those before it of the same name."""
        last = {name: at for at, (name, _) in enumerate(headers) if name in self.header_names}
        return [each for at, each in enumerate(headers) if last.get(each[0], at) == at]

    @property
    def follows_answer(self) -> bool:
        """Whether any hook is called for the answer."""
        return any(self.set.follows(loaded, state) for loaded, state in zip(self.set.hooks, self.states, strict=True))

    def note_unreadable(self, what: str) -> None:
        """Count a part of the answer that no hook can read as a failure of each hook that follows the answer.

        `what` describes the part, such as "an event without a JSON object". Raise GatewayError if such a hook is closed. The reason is
        reported once for each call.
        """
        for loaded, state in zip(self.set.hooks, self.states, strict=True):
            if not self.set.follows(loaded, state):
                continue
            self.set.metrics.count("lockgate_hook_failures", (loaded.name, "chunk", "error"))
            if not self._has_reported:
                self._has_reported = True
                self.set.report(f"hooks: '{loaded.name}' failed at its point 'chunk', because the provider sent {what}")
            if loaded.failure == "closed":
                message = f"The hook '{loaded.name}' cannot read the answer: the provider sent {what}."
                raise GatewayError(message, status=502, code="upstream_bad_response")

    async def piece(self, channel: str, kind: Kind, text: str, *, is_last: bool, pieces: Pieces) -> str:
        """Return the text to send for one piece of the answer.

        The hooks run in reverse order, so the first hook gets the caller's texts in both directions.
        """
        for at in range(len(self.states) - 1, -1, -1):
            loaded, state = self.set.hooks[at], self.states[at]
            if (kind == "other" and not loaded.hook.sees_all) or not self.set.follows(loaded, state):
                continue
            place = (at, channel)
            whole, before = pieces.held.pop(place, "") + text, pieces.sent.pop(place, "")
            emit = await self.set.ask(loaded, "chunk", Chunk(self.facts, channel, kind, whole, is_last, state, before))
            text = whole if emit is None else emit.text
            if not is_last:
                pieces.sent[place] = (before + text)[-MAX_BEFORE_CHARS:]
            if emit is not None and emit.hold and not is_last:
                pieces.held[place] = emit.hold
            if emit is not None and emit.why:
                pieces.note(_note(loaded, channel, emit.why))
        return text

    async def answer(self, body: bytes, pieces: Pieces) -> bytes:
        """Return a JSON answer as the hooks change it."""
        if not self.follows_answer:
            return body
        whole = Body(body)
        if b'"logprobs"' in body:
            for name in ("choices", "output", "message", "logprobs"):
                if name in whole:
                    whole.set(name, without_logprobs({name: whole.get(name)})[name])
        final: dict[str, str] = {}
        read = 0
        for leaf in self._leaves_of(whole):
            if leaf.text not in final:
                read += len(leaf.text)
                if read > MAX_LOOP_CHARS:
                    read = 0
                    await asyncio.sleep(0)  # other calls run between the texts of a large answer
                final[leaf.text] = await self.piece(leaf.path, leaf.kind, leaf.text, is_last=True, pieces=pieces)
        _rewrite(whole, final)
        return whole.encode()

    def _leaves_of(self, body: Body) -> list[Leaf]:
        found: list[Leaf] = []
        for name in body:
            value = body.get(name)
            if name in TOKEN_FIELDS and self.set.refuses_unreadable and has_token_ids(value):
                raise BadRequest(f"'{name}' has token ids, which the hooks of this gateway cannot read. Send text.", param=name)
            found += leaves({name: value})
        return found

    def _check_names(self, body: Body) -> None:
        """Raise BadRequest if a hook with `failure: closed` would get only one of two members with the same name."""
        for name in body if self.set.refuses_unreadable else ():
            source = body.raw(name)
            if source and source[:1] in b"{[" and repeats_names(source):
                message = f"'{name}' has an object with two members of the same name, which the hooks of this gateway cannot read."
                raise BadRequest(message, param=name)

    def _rewrite(self, body: Body) -> None:
        _rewrite(body, self._final)


def _rewrite(body: Body, final: dict[str, str]) -> None:
    """Replace texts of a body."""
    for name in list(body):
        value = {name: body.get(name)}
        new = replaced(value, lambda text: final.get(text, text))
        if new is not value:
            body.set(name, new[name])


def _distinct_paths(found: Mapping[str, Leaf]) -> dict[str, str]:
    """Return a path for each text. If texts have the same place, such as the name and the value of a member, later paths get a number."""
    seen: Counter[str] = Counter()
    paths = {}
    for text, leaf in found.items():
        seen[leaf.path] += 1
        paths[text] = leaf.path if seen[leaf.path] == 1 else f"{leaf.path}#{seen[leaf.path]}"
    return paths


def _note(loaded: LoadedHook, path: str, why: str) -> Adjustment:
    return Adjustment(path, "replace", why=f"hook '{loaded.name}'" + (f": {why[:MAX_WHY_CHARS]}" if why else ""))
