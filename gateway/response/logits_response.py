"""Answers a call for next-token probabilities."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from gateway.emulate import logits
from gateway.response import upstream_answer as answer
from gateway.response.json_response import fetch_answer, send_json
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES, MAX_ERROR_BYTES, UpstreamExchange
from gateway.upstream.transport import Response
from providers.base import Body, Failure, StreamFailure

if TYPE_CHECKING:
    from providers.base import Probabilities, ProbabilitySteps


async def send_logits(exchange: UpstreamExchange, body: Body, asked: logits.LogitsRequest) -> None:
    """Send next-token probabilities for a provider without an operation for them.

    They come from special requests of the provider (`Provider.probabilities`) or, if there are none, from a chat answer.
    """
    attempt, target = exchange.attempt, exchange.target
    steps = target.kind.probabilities
    if steps is None:
        (answered, attempt.usage, attempt.finish_reasons), response = await fetch_answer(exchange, body)
        found, notes = logits.from_chat(answered, asked)
    else:
        probabilities, response = await _step(exchange, steps(body, target, exchange.options, asked.top_k, asked.vocabulary))
        found = logits.encode_answer(probabilities.by_token, None)
        notes = logits.first_token_notes(probabilities.first_token_only, target, strict=exchange.options.strict)
    attempt.adjustments = [*attempt.adjustments, *notes]
    await send_json(exchange, found, response)


async def _step(exchange: UpstreamExchange, steps: ProbabilitySteps) -> tuple[Probabilities, Response]:
    """Send a provider's own requests one after another. Return the probabilities and the last response."""
    request = next(steps)
    while True:
        exchange.attempt.is_written = True
        response = await exchange.transmit(request)
        exchange.attempt.head_at = time.monotonic()
        try:
            if response.status != 200:
                raise StreamFailure(await answer.read_failure(response, exchange.target, MAX_ERROR_BYTES))
            request = steps.send(await response.body(MAX_ANSWER_BYTES))
        except StopIteration as end:
            exchange.attempt.ended_at = time.monotonic()
            return end.value, response
        except (msgspec.DecodeError, LookupError, ArithmeticError):
            raise StreamFailure(Failure("bad_body", "the engine's probabilities cannot be read")) from None
        finally:
            response.close()
