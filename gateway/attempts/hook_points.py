"""Runs the hooks of a call: on its request, on the target that counts its tokens, and at its end.

If its stream ends with an error, the texts that the hooks hold back are sent before the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from gateway import accounting
from gateway.call import Call
from gateway.errors import BadRequest, GatewayError, unreadable
from gateway.hooks.api import CallFacts, Settled
from gateway.hooks.run import HookRun, HookSet
from gateway.http.caller import Caller
from gateway.targets.candidate import Candidate
from providers.base import Body, Refusal


def begin_hooks(hooks: HookSet | None, call: Call) -> HookRun | None:
    """Begin the hooks of a call whose caller and model are known. Return None if there are no hooks."""
    if hooks is None:
        return None
    key = call.key
    is_stream = call.body is not None and call.body.get("stream") is True
    facts = CallFacts(
        call.id,
        call.path,
        call.model,
        key.name if key is not None else "",
        (key.team or "") if key is not None else "",
        call.end_user,
        call.tags,
        is_stream,
    )
    call.hooks = run = hooks.begin(facts)
    return run


async def hook_request(hooks: HookSet | None, call: Call) -> None:
    """Begin the hooks of a call, and pass its request through them. Do nothing if there are no hooks."""
    if (run := begin_hooks(hooks, call)) is None:
        return
    try:
        await run.request([body for body in (call.source, call.body) if body is not None])
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None


async def hook_target(call: Call, candidates: Sequence[Candidate]) -> Candidate:
    """Return the first candidate whose target the hooks allow, for a request that counts or converts the tokens of a call.

    The headers that the hooks set are added to the bodies of the call. Raise GatewayError if the hooks refuse the call or skip all targets.
    """
    if call.hooks is None:
        return candidates[0]
    assert call.body is not None
    skipped: list[Refusal] = []
    for candidate in candidates:
        shell = Body(b"{}")
        try:
            await call.hooks.target(candidate.backend.target, shell)
        except Refusal as refusal:
            skipped.append(refusal)
            continue
        for body in (call.source, call.body):
            if body is not None:
                body.headers |= shell.headers
        return candidate
    raise BadRequest(skipped[0].message, code=skipped[0].code)


async def send_held(call: Call, caller: Caller, error: GatewayError) -> GatewayError:
    """Send the texts that hooks hold back in a stream that ends with an error, so that the caller gets all text that arrived.

    Return the error that ends the stream: the refusal if a hook refuses such a text, otherwise `error`.
    """
    run = call.hooks
    if run is None or run.rest is None or not caller.head_sent:
        return error
    rest, run.rest = run.rest, None
    try:
        if events := await rest():
            await caller.write(events)
    except GatewayError as refusal:
        return refusal
    return error


def settle_hooks(call: Call, ended: float) -> None:
    """Report the outcome of a call to its hooks, of which there is at least one."""
    assert call.hooks is not None
    call.hooks.set.settle(call.hooks, partial(_outcome, call, ended, call.hooks.facts))


def _outcome(call: Call, ended: float, facts: CallFacts, state: dict[str, Any]) -> Settled:
    attempt = call.final_attempt
    usage = attempt.usage if attempt is not None else None
    return Settled(
        facts,
        call.status,
        call.error.code if call.error is not None else None,
        attempt.target.name if attempt is not None else None,
        usage.prompt_tokens if usage is not None else None,
        usage.completion_tokens if usage is not None else None,
        accounting.cost_usd(call),
        ended - call.started,
        state,
    )
