"""Conformance tests for hooks of your own. They need no gateway and no network.

    from gateway.hooks.testing import check_hook, run_request, run_text

    async def test_my_hook() -> None:
        await check_hook(MyHook())
        assert await run_text(MyHook(), "some text", size=3) == "some text"

A function raises AssertionError with the reason if the hook breaks a rule. The functions whose names begin with `run_` return the result
that a call would get, and raise GatewayError if the hook refuses the call or fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import GatewayError
from gateway.hooks.api import POINTS, CallFacts, Hook, Settled, Target
from gateway.hooks.load import loaded
from gateway.hooks.run import HookRun, HookSet, Pieces
from gateway.hooks.stream import HookedEvents
from gateway.metrics import Metrics
from providers.base import Body

FACTS = CallFacts("call-1", "/v1/chat/completions", "m", "key", "team", "user", (), stream=True)
TEXTS = ("", "a", "Plain words, and more.", "Grüße 👋 من", "line\nline\ttab", '{"a": [1, "b"]}', "[EMAIL_1] [", "x" * 3000)
SIZES = (1, 2, 7, 4000)
MAX_HELD_CHARS = 1 << 16


class HookTestError(AssertionError):
    """A hook broke a rule of the interface."""


async def check_hook(hook: Hook, texts: Sequence[str] = TEXTS) -> None:
    """Check that a hook follows the rules of the interface. `texts` are sent through it as requests and as answers.

    The hook must override at least one point, must not fail, must return the types of its points, must give the same answer however
    a text is cut into pieces, and must not keep state between calls outside `state`.
    """
    made = loaded(hook)
    if not made.points:
        raise HookTestError(f"the hook overrides none of {', '.join(POINTS)}")
    if hook.failure not in ("open", "closed"):
        raise HookTestError("'failure' must be 'open' or 'closed'")
    for text in texts:
        first, second = await _outcome(hook, text), await _outcome(hook, text)
        if first != second:
            raise HookTestError(f"two calls with the same request differ: {first!r} and {second!r}")
        answers = {size: await _answer(hook, text, size) for size in SIZES}
        if len({str(answer) for answer in answers.values()}) > 1:
            raise HookTestError(f"the answer depends on the size of the pieces: {answers!r}")
    if "target" in made.points:
        await _target(hook)
    if "settled" in made.points:
        await _settle(hook)


async def run_request(hook: Hook, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a request as the upstream gets it. Raise GatewayError if the hook refuses the request."""
    run = _run(hook)
    body = Body(msgspec.json.encode(request))
    await run.request([body])
    changed: dict[str, Any] = msgspec.json.decode(body.encode())
    return changed


async def run_text(hook: Hook, text: str, *, size: int = 1, request: Mapping[str, Any] | None = None) -> str:
    """Return an answer's text as the caller gets it. The answer arrives in pieces of `size` characters, after a request if there is one."""
    run = _run(hook)
    if request is not None:
        await run.request([Body(msgspec.json.encode(request))])
    pieces, sent = Pieces(), ""
    channel = "choices[0].delta.content"
    if not run.follows_answer:
        return text
    for at in range(0, len(text), size):
        sent += await run.piece(channel, "text", text[at : at + size], is_last=False, pieces=pieces)
        if sum(map(len, pieces.held.values())) > MAX_HELD_CHARS:
            raise HookTestError(f"the hook holds back more than {MAX_HELD_CHARS} characters")
    return sent + await run.piece(channel, "text", "", is_last=True, pieces=pieces)


async def run_events(hook: Hook, events: bytes, *, size: int = 64, request: Mapping[str, Any] | None = None) -> bytes:
    """Return a stream's events as the caller gets them. The stream arrives in pieces of `size` bytes, after a request if there is one."""
    run = _run(hook)
    if request is not None:
        await run.request([Body(msgspec.json.encode(request))])
    hooked = HookedEvents(run, Pieces())
    sent = [await hooked.feed(events[at : at + size]) for at in range(0, len(events), size)]
    return b"".join([*sent, await hooked.end()])


async def _outcome(hook: Hook, text: str) -> object:
    """Return the changed request, or the refusal."""
    try:
        return await run_request(hook, {"model": "m", "messages": [{"role": "user", "content": text}], "tools": []})
    except GatewayError as error:
        return _refusal(error)


async def _answer(hook: Hook, text: str, size: int) -> object:
    try:
        return await run_text(hook, text, size=size)
    except GatewayError as error:
        return _refusal(error)


def _refusal(error: GatewayError) -> tuple[int, str | None]:
    if error.code == "hook_failed":
        raise HookTestError(f"the hook failed: {error.__context__!r}") from error.__context__
    return error.status, error.code


async def _target(hook: Hook) -> None:
    hooks = HookSet([loaded(hook)._replace(failure="closed")], Metrics(), _fail)
    for name, of in (("openai/gpt-4o", "openai"), ("own/some-model", "vllm")):
        try:
            await hooks.ask(hooks.hooks[0], "target", Target(FACTS, name, of, {}))
        except GatewayError as error:
            _refusal(error)


async def _settle(hook: Hook) -> None:
    for settled in (
        Settled(FACTS, 200, None, "p/m", 5, 7, 0.01, 0.2, {}),
        Settled(FACTS, 503, "model_unavailable", None, None, None, None, 0.2, {}),
    ):
        hooks = HookSet([loaded(hook)._replace(failure="closed")], Metrics(), _fail)
        await hooks.ask(hooks.hooks[0], "settled", settled)


def _run(hook: Hook) -> HookRun:
    return HookSet([loaded(hook)._replace(failure="closed")], Metrics(), lambda line: None).begin(FACTS)


def _fail(line: str) -> None:
    raise HookTestError(line)
