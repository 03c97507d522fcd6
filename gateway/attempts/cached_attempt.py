"""Attempts of models with a cache: a cached answer is delivered like an upstream's response, and whole answers are stored.

The cache works on the bytes of the upstream's response. So all features of the gateway that change an answer, such as stop
strings, JSON mode, translations and receipts, apply to a cached answer as they apply to a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import NamedTuple

from gateway.attempts.admission import Admission
from gateway.attempts.prepare import RequestAdapter, attempt_deadlines
from gateway.attempts.progress import Progress
from gateway.attempts.send_attempt import MIN_TIME_LEFT_S, AttemptSender, BegunAttempt, Replay
from gateway.cache.answers import AnswerCache, Lookup, max_answer_bytes
from gateway.cache.control import CacheControl, read_cache_control
from gateway.cache.entry import CachedResponse, Entry, Recording, is_complete
from gateway.cache.key import digest_for
from gateway.call import Call
from gateway.config.cache import CacheBounds, CacheConfig
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.native.choice import is_fitted
from gateway.response.deliver import deliver
from gateway.response.translated_caller import TranslatedCaller
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from gateway.tokens.inputs import WITHOUT_OUTPUT
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Body, Failure, Refusal, StreamFailure

STATEFUL_FIELDS = ("background", "container", "conversation")
"""Fields of native requests that refer to state at the provider. The answer to such a request depends on this state."""


class Caching(NamedTuple):
    """The cache of a configuration in which models have one."""

    cache: AnswerCache
    bounds: CacheBounds


class CacheUse(NamedTuple):
    """The use of the cache by one attempt."""

    key: str
    settings: CacheConfig
    control: CacheControl


class CachedAttemptSender(AttemptSender):
    """Sends the attempts of all calls of a configuration in which models have a cache."""

    def __init__(
        self,
        requests: RequestAdapter,
        metrics: Metrics,
        limits: Limits | None,
        caching: Caching,
    ) -> None:
        super().__init__(requests, metrics, limits)
        self._cache, self._bounds = caching

    async def send(
        self, progress: Progress, candidate: Candidate, health: TargetHealth, begun: BegunAttempt | None = None
    ) -> Failure | None:
        """Answer the caller with a cached answer if there is one; otherwise send the request and store the answer."""
        call, settings = progress.call, candidate.settings.cache
        if settings is None or begun is not None or _is_continued_or_copy(call):
            return await super().send(progress, candidate, health, begun)
        target = health.pick_credential(candidate.backend.targets)
        exchange, body = await self._start(progress, candidate, target, progress.time_left())
        control = read_cache_control(progress.caller.headers)
        if not (control.may_read or control.may_store) or not _is_cacheable(exchange, body):
            exchange.attempt.cache = "bypass"
            self._count("lockgate_cache_lookups", progress, "bypass")
            return await self._send(progress, candidate, health, exchange, body)
        use = _cache_use(exchange, body, settings, control)
        found = await self._look_up(progress, exchange, use)
        if found.entry is not None:
            return await self._replay(progress, exchange, body, found.entry, use)
        try:
            exchange.deadlines = attempt_deadlines(candidate, call, max(MIN_TIME_LEFT_S, progress.time_left()))
            return await self._send_and_store(progress, candidate, health, exchange, body, use, found)
        except asyncio.CancelledError:
            if found.flight is not None:
                found.flight.end(is_abandoned=True)
            raise
        finally:
            if found.flight is not None:
                found.flight.end()

    async def find_cached(self, progress: Progress, candidate: Candidate) -> Replay | None:
        """Adapt the call to a target in cooldown, and return the function that replays the stored answer, or None. Send nothing.

        Return None for a conversation that is fitted into a context window, because the target may have to count its tokens.
        """
        call, settings = progress.call, candidate.settings.cache
        control = read_cache_control(progress.caller.headers)
        if settings is None or not control.may_read or _is_continued_or_copy(call) or is_fitted(call, candidate.settings):
            return None
        last = progress.attempt
        try:
            exchange, body = await self._start(progress, candidate, candidate.backend.target, progress.time_left())
        except Refusal:
            return None
        if _is_cacheable(exchange, body):
            use = _cache_use(exchange, body, settings, control)
            found = await self._cache.find(use.key, settings.ttl, control)
            if (entry := found.entry) is not None:
                self._record_lookup(progress, exchange, found)
                return lambda: self._replay(progress, exchange, body, entry, use)
        call.attempts.pop()
        progress.attempt = last
        return None

    async def _look_up(self, progress: Progress, exchange: UpstreamExchange, use: CacheUse) -> Lookup:
        attempt, found = exchange.attempt, Lookup()
        if use.control.may_read:
            try:
                found = await self._cache.look_up(use.key, use.settings.ttl, use.control, progress.time_left())
            except asyncio.CancelledError:
                if progress.caller.has_gone:
                    attempt.outcome = "left"
                raise
        self._record_lookup(progress, exchange, found)
        return found

    def _record_lookup(self, progress: Progress, exchange: UpstreamExchange, found: Lookup) -> None:
        attempt = exchange.attempt
        attempt.queue_s += found.waited_s
        attempt.cache, outcome = "miss", "miss"
        if found.entry is not None:
            attempt.cache, attempt.cache_age_s = "hit", int(found.age_s)
            outcome = "joined" if found.waited_s else "hit"
        self._count("lockgate_cache_lookups", progress, outcome)

    async def _replay(
        self, progress: Progress, exchange: UpstreamExchange, body: Body, entry: Entry, use: CacheUse
    ) -> Failure | None:
        """Deliver a cached answer. If that is impossible, delete the answer and return the failure."""
        attempt = exchange.attempt
        attempt.outcome = "cached"
        attempt.sent_at = exchange.sent_at = time.monotonic()
        exchange.begun = _cached_response(entry)
        try:
            await deliver(exchange, body)
        except (StreamFailure, UpstreamError) as error:
            await self._cache.forget(use.key)
            return error.failure if isinstance(error, StreamFailure) else Failure("bad_body", error.message)
        finally:
            progress.attempt = exchange.attempt
            attempt.ms = exchange.elapsed_ms()
        return None

    async def _send(
        self, progress: Progress, candidate: Candidate, health: TargetHealth, exchange: UpstreamExchange, body: Body
    ) -> Failure | None:
        """Send the request of an attempt that is not yet admitted."""
        candidate.backend.latency.in_flight += 1
        admission = Admission(progress.call, exchange.attempt, health, self._limits)
        return await super().send(progress, candidate, health, BegunAttempt(exchange, admission, body))

    async def _send_and_store(
        self,
        progress: Progress,
        candidate: Candidate,
        health: TargetHealth,
        exchange: UpstreamExchange,
        body: Body,
        use: CacheUse,
        found: Lookup,
    ) -> Failure | None:
        recording, attempt = Recording(max_answer_bytes(self._bounds)), exchange.attempt
        exchange.record = recording.record
        if found.flight is not None:
            found.flight.follow(recording.caller_delay)
        failure = await self._send(progress, candidate, health, exchange, body)
        if failure is not None:
            return failure
        if recording.is_too_large:
            outcome = "too_large"
        elif exchange.attempt is not attempt or not _is_whole(exchange, recording):
            outcome = "incomplete"
        else:
            entry = recording.entry(self._cache.now())
            if found.flight is not None:
                found.flight.answer(entry)
            is_stored = await self._cache.save(use.key, entry, use.settings.ttl, self._bounds)
            if found.flight is not None:
                found.flight.is_stored = is_stored
            outcome = "stored" if is_stored else "unavailable"
        self._count("lockgate_cache_writes", progress, outcome)
        return None

    def _count(self, name: str, progress: Progress, outcome: str) -> None:
        self._metrics.count(name, (self._metrics.model_label(progress.call.model), outcome))


def new_sender(requests: RequestAdapter, metrics: Metrics, limits: Limits | None, caching: Caching | None) -> AttemptSender:
    """Return the sender of a configuration. `caching` is None if no model has a cache."""
    if caching is None:
        return AttemptSender(requests, metrics, limits)
    return CachedAttemptSender(requests, metrics, limits, caching)


def _is_continued_or_copy(call: Call) -> bool:
    """Return whether a call continues a broken stream, or is a copy for a mirror."""
    return call.mirror_of is not None or (call.transcript is not None and bool(call.transcript.handovers))


def _cache_use(exchange: UpstreamExchange, body: Body, settings: CacheConfig, control: CacheControl) -> CacheUse:
    request = exchange.target.kind.encode(body, exchange.target, exchange.options)
    return CacheUse(digest_for(exchange.call, settings.scope, exchange.target, request), settings, control)


def _is_cacheable(exchange: UpstreamExchange, body: Body) -> bool:
    """Return whether an attempt has one upstream request, with the gateway's credential, whose answer depends on nothing else.

    Equal requests of one call must give different samples, so a call with several upstream requests uses no cached answer. A response
    that is stored needs an id of its own, because equal upstream requests may come from different texts, which hooks mask.
    """
    target, caller = exchange.target, exchange.caller
    if target.brought or exchange.upstream_calls > 1 or (isinstance(caller, TranslatedCaller) and caller.keep is not None):
        return False
    if exchange.logits_request is not None and target.kind.probabilities is not None:
        return False
    if exchange.native is not None and any(body.get(name) for name in STATEFUL_FIELDS):
        return False
    return target.kind.chained(body, exchange.options) is None


def _is_whole(exchange: UpstreamExchange, recording: Recording) -> bool:
    """Return whether the whole answer was recorded, and nothing cut it short."""
    if not recording.is_whole or (exchange.json_validator is not None and exchange.json_validator.error is not None):
        return False
    return exchange.call.operation in WITHOUT_OUTPUT or is_complete(exchange.attempt.finish_reasons)


def _cached_response(entry: Entry) -> Awaitable[Response]:
    ready: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    ready.set_result(CachedResponse(entry))
    return ready
