"""Counts the tokens of a prompt without sending a call: with the local engine, with a known tokenizer, or by an estimate."""

from __future__ import annotations

import msgspec

from gateway.attempts.fit import NO_SETTINGS, EngineCountError, engine_counting
from gateway.targets.candidate import Candidate
from gateway.tokens.counter import SHARED_COUNTER, tokenizer_for
from providers.base import Body


class PromptCount(msgspec.Struct, frozen=True):
    """The tokens of a prompt. `exact` is True if the target counts the same."""

    tokens: int
    exact: bool
    tokenizer: str


async def count_prompt(body: Body, candidate: Candidate, *, engines_run: bool = True) -> PromptCount:
    """Count the tokens of a chat body at a candidate."""
    place, target = candidate.backend, candidate.backend.target
    if place.engine is not None and engines_run:
        try:
            counting = await engine_counting(body.copy(), place, candidate.deadlines)
        except EngineCountError:
            pass  # the engine is not running: the estimate below applies
        else:
            return PromptCount(counting.before, counting.exact, counting.tokenizer)
    file = (candidate.settings.context or NO_SETTINGS).tokenizer
    counted = await SHARED_COUNTER.count(body, tokenizer_for(target.kind.type, target.model, file))
    return PromptCount(counted.total(), counted.exact, counted.tokenizer)
