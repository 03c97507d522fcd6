"""Counts the tokens of a prompt and returns their ids, without sending a call.

The tokens come from the server that runs the model or from a known tokenizer; otherwise their number is estimated.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import msgspec

from gateway.attempts.fit import MAX_ENGINE_WAIT_S, NO_SETTINGS, EngineCountError, engine_counting, window_sizes
from gateway.errors import BadRequest, GatewayError, Unavailable, from_failure
from gateway.targets.candidate import Candidate
from gateway.tokens.counter import SHARED_COUNTER
from gateway.tokens.ids import UnknownIdError
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from gateway.upstream.transport import UpstreamError
from providers.base import Body, Options, Refusal, Target, WireRequest
from providers.media.table import media_rules
from providers.tokenizer_apis import TOKENIZER_APIS, Asked, TokenizerApi, Tokens

MAX_SERVER_WAIT_S = 10.0
"""Maximum time for a request to a server's tokenizer. After it, the gateway counts the tokens itself."""
MAX_TOKENS_BYTES = 64 << 20


class PromptCount(msgspec.Struct, frozen=True):
    """The tokens of a prompt.

    `exact` is true if the target is known to count the same number; `ids` is None if the ids are unknown.
    """

    tokens: int
    exact: bool
    tokenizer: str
    ids: list[int] | None = None
    texts: list[str] | None = None
    window: int | None = None
    """The model's context window, if it is known."""


class TokenText(NamedTuple):
    """The text of token ids, and the tokenizer that has these ids."""

    text: str
    tokenizer: str


class ServerTokenError(Exception):
    """The server does not answer with tokens. Callers whose request cannot be answered without the server get `error`."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.message)
        self.error = error


async def count_prompt(body: Body, candidate: Candidate, *, engines_run: bool = True) -> PromptCount:
    """Count the tokens of a chat body at a candidate."""
    place, target = candidate.backend, candidate.backend.target
    if place.engine is not None and engines_run:
        try:
            counting = await engine_counting(body.copy(), place, candidate.deadlines)
        except (EngineCountError, Refusal):
            pass  # the engine returned no count or cannot read the prompt, such as an image, so the estimate below applies
        else:
            return PromptCount(counting.before, counting.exact, counting.tokenizer)
    elif target.kind.type in TOKENIZER_APIS and engines_run:
        try:
            return await server_tokens(Asked(), body, candidate)
        except ServerTokenError:
            pass
    counted = await SHARED_COUNTER.count(body, _tokenizer(candidate), media_rules(target.kind.type, target.model))
    return PromptCount(counted.total(), counted.exact, counted.tokenizer)


async def tokenize(asked: Asked, body: Body, candidate: Candidate) -> PromptCount:
    """Return the tokens of a text or of the messages of a chat body, with ids and texts where they are known."""
    window = window_sizes(candidate.backend, candidate.settings.context or NO_SETTINGS)[0]
    if candidate.backend.target.kind.type in TOKENIZER_APIS:
        try:
            found = await server_tokens(asked, body, candidate)
            return msgspec.structs.replace(found, window=found.window or window)
        except ServerTokenError:
            pass
    elif asked.begins_answer is False or asked.adds_special:
        name, value = ("add_generation_prompt", "false") if asked.begins_answer is False else ("add_special_tokens", "true")
        message = f"'{name}' cannot be {value}, because {candidate.backend.target.name} has no API for its tokenizer."
        raise BadRequest(message, param=name, code="unsupported_parameter")
    counted = await count_prompt(body, candidate, engines_run=False) if asked.text is None else await _count_text(asked, candidate)
    return msgspec.structs.replace(counted, window=window)


async def _count_text(asked: Asked, candidate: Candidate) -> PromptCount:
    text, tokenizer = asked.text or "", _tokenizer(candidate)

    def work() -> PromptCount:
        try:
            if tokenizer.has_ids:
                ids = SHARED_COUNTER.encode(text, tokenizer)
                texts = SHARED_COUNTER.texts_of(ids, tokenizer) if asked.wants_texts else None
                return PromptCount(len(ids), tokenizer.exact, tokenizer.label(), ids, texts)
        except ImportError:
            pass  # the tokenizer cannot be loaded, so the count below uses another one
        (count,) = SHARED_COUNTER.count_texts([text], tokenizer)
        return PromptCount(math.ceil(count * tokenizer.factor), tokenizer.exact, tokenizer.label())

    return await SHARED_COUNTER.run(work, len(text), tokenizer)


async def detokenize(ids: list[int], body: Body, candidate: Candidate) -> TokenText:
    """Return the text of token ids, from the model's server if it answers, else from a tokenizer that has the model's ids.

    Raise GatewayError if an id or the ids of the model are unknown.
    """
    target = candidate.backend.target
    api, tokenizer = TOKENIZER_APIS.get(target.kind.type), _tokenizer(candidate)
    unanswered: GatewayError | None = None
    if api is not None:
        try:
            return TokenText(await _server_text(api, ids, body, candidate), _server_name(candidate))
        except ServerTokenError as failed:
            unanswered = failed.error
    try:
        if tokenizer.has_ids:
            decode = partial(SHARED_COUNTER.decode, ids, tokenizer)
            return TokenText(await SHARED_COUNTER.run(decode, len(ids), tokenizer), tokenizer.label())
    except UnknownIdError as unknown:
        place = f"tokens[{unknown.index}]"
        raise BadRequest(f"'{place}' is not a token of {target.name}.", param=place) from None
    except ImportError:
        pass
    if unanswered is not None:
        raise unanswered
    known = "They are known for OpenAI's models, the local engine, vLLM, llama.cpp, and models with context.tokenizer."
    message = f"The token ids of {target.name} are unknown. {known}"
    raise BadRequest(message, param="model", code="unsupported_operation")


async def server_tokens(asked: Asked, body: Body, candidate: Candidate) -> PromptCount:
    """Return the tokens as the server of a candidate counts them.

    Raise ServerTokenError if the server does not answer with tokens.
    """
    target = candidate.backend.target
    await _settle(candidate)
    adapted = body.copy()
    try:
        if asked.text is None:
            target.kind.adapt(adapted, target, Options())
        steps = TOKENIZER_APIS[target.kind.type].tokenize(asked, adapted, target)
        request = next(steps)
        while True:
            request = steps.send(await _ask(request, candidate))
    except StopIteration as end:
        found: Tokens = end.value
    except (Refusal, ValueError, TypeError, LookupError) as error:
        raise ServerTokenError(Unavailable(f"{target.name} does not answer with tokens.")) from error
    return PromptCount(len(found.ids), True, _server_name(candidate), found.ids, found.texts, found.window)


def _server_name(candidate: Candidate) -> str:
    return "engine" if candidate.backend.engine is not None else "server"


async def _server_text(api: TokenizerApi, ids: list[int], body: Body, candidate: Candidate) -> str:
    target = candidate.backend.target
    await _settle(candidate)
    try:
        return api.read_text(await _ask(api.detokenize(ids, body, target), candidate))
    except (ValueError, TypeError, LookupError) as error:
        raise ServerTokenError(Unavailable(f"{target.name} does not answer with a text.")) from error


async def _settle(candidate: Candidate) -> None:
    """Wait until a local engine has loaded its model, if there is one."""
    settled = getattr(candidate.backend.engine, "settled", None)
    if settled is not None:
        await settled(MAX_ENGINE_WAIT_S)


async def _ask(request: WireRequest, candidate: Candidate) -> bytes:
    """Return the answer to one request. Raise ServerTokenError if the request fails or the status of the answer is not 200."""
    place, target = candidate.backend, candidate.backend.target
    deadlines = msgspec.structs.replace(candidate.deadlines, total=min(candidate.deadlines.total, MAX_SERVER_WAIT_S))
    try:
        response = await place.transport.send(place.origin, request, deadlines)
        try:
            answer = await response.body(MAX_TOKENS_BYTES)
        finally:
            response.close()
    except UpstreamError as error:
        raise ServerTokenError(Unavailable(f"{target.name}: {error.message}.")) from error
    if response.status != 200:
        raise ServerTokenError(_refused(response.status, answer, target))
    return answer


def _refused(status: int, answer: bytes, target: Target) -> GatewayError:
    return from_failure(target.kind.failure(status, {}, answer, target), target.name)


def _tokenizer(candidate: Candidate) -> Tokenizer:
    target, settings = candidate.backend.target, candidate.settings.context or NO_SETTINGS
    return tokenizer_for(target.kind.type, target.model, settings.tokenizer)
