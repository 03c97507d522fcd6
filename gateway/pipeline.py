"""The life of one call, from the first byte to the last. Read this first.

    authenticate  headers -> VirtualKey                               401, 403
    accept        read the body                                       400, 408, 413, 415
    find          name -> model that the key may use                  403, 404
    check         types, ranges and messages of the body              400
    route         model -> candidates in order
    limit         reserve for key, team, user and model: all or none  429; for a provider's limits, the next candidate
    fit           count, lower, evict; if requested or configured     400, or the next candidate
    attempt       rules + encode -> request -> answer, or a Failure   the next candidate, until the response has begun
    deliver       send the answer: bytes as they are, or as events
    account       usage, counters, one log line                       always, exactly once

attempts/retry_policy.py decides what follows a failed attempt. The coroutine that accepts a call also accounts for it, in one
`finally`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from gateway import accounting
from gateway.attempts.cached_attempt import Caching
from gateway.attempts.failover import Failover
from gateway.attempts.hedge import Hedges
from gateway.attempts.hook_points import begin_hooks, hook_request, send_held, settle_hooks
from gateway.attempts.mirror import Mirrors
from gateway.attempts.read_request import read_caller, read_parameters, read_request
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Call, PassedRequest
from gateway.dialects.credential_headers import read_credentials
from gateway.dialects.dialect import Dialect
from gateway.dialects.request_headers import KnownHeaders, gateway_tags, known_headers
from gateway.errors import Forbidden, GatewayError, Headers, Unauthorized, Unavailable
from gateway.hooks.run import HookSet
from gateway.http.caller import Caller, CallerDeadlines, Send, address_of
from gateway.http.json_body import CallerDisconnectedError, Receive, body_timeout, check_body_headers, check_size, read_body
from gateway.http.sweeper import Sweeper
from gateway.keys.authenticate import Keys
from gateway.keys.brought import brought_credentials
from gateway.keys.token_callers import SigningKeyUnknownError
from gateway.keys.virtual_key import KeyRejectedError, may_use
from gateway.ledger.ledger import Ledger
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.native.request import check_expressible
from gateway.passthrough.caller import PassthroughCaller
from gateway.passthrough.rules import Rule, Rules
from gateway.passthrough.websocket import WebSocketCaller, WebSocketPassthrough
from gateway.response import receipt
from gateway.response.headers import error_headers
from gateway.response.response_storage import ResponseStorage
from gateway.response.translated_caller import TranslatedCaller
from gateway.routing.route_query import RouteQuery
from gateway.routing.router import Router
from gateway.targets.brought import backend_with, brought_later, with_brought
from gateway.targets.candidate import Candidate, Model
from gateway.targets.registry import TargetRegistry
from gateway.telemetry.call_log import CallLog, internal_error
from gateway.telemetry.call_metrics import CallMetrics

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Trace, Tracer

AnyCaller = TypeVar("AnyCaller", bound=Caller)


class Pipeline:
    """The pipeline of all calls of one configuration."""

    def __init__(
        self,
        *,
        keys: Keys,
        router: Router,
        metrics: Metrics,
        log: CallLog,
        watch: Sweeper,
        deadlines: CallerDeadlines,
        max_body: int,
        health: TargetRegistry,
        budget: RetryBudget,
        hedges: Hedges,
        strict: bool = False,
        limits: Limits | None = None,
        mirrors: Mirrors | None = None,
        default_output: int = 4096,
        ledger: Ledger,
        tracer: Tracer | None = None,
        known: KnownHeaders | None = None,
        passed: Rules | None = None,
        storage: ResponseStorage,
        hooks: HookSet | None = None,
        caching: Caching | None = None,
    ) -> None:
        """Create the pipeline of one configuration. `limits` is None if no limits are configured.

        `default_output` is the number of output tokens expected of a call without an output cap. `known` holds the names of the
        request headers that are read. `passed` are the paths that are passed on. `hooks` is None if none are configured.
        """
        self.keys = keys
        self.known_headers = known or known_headers()
        self.limits = limits
        self.router = router
        self.metrics = metrics
        self.passed = passed
        self._passthrough = WebSocketPassthrough(metrics, limits, health)
        self._call_metrics = CallMetrics(metrics)
        self.failover = Failover(metrics, limits, health, budget, hedges, caching=caching)
        self._log = log
        self.watch = watch
        self.deadlines = deadlines
        self.calls = 0
        """Number of calls in flight. A generation that no longer serves ends when neither calls nor copies for mirrors are in flight."""
        self.max_body = max_body
        self.strict = strict
        self._mirrors = mirrors
        self.tracer = tracer
        self.default_output = default_output
        self.ledger = ledger
        self.storage = storage
        self.hooks = hooks

    def serve(self, dialect: Dialect, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one call and account for it."""
        # not a coroutine, because every await of the call would pass through it
        translator = dialect.translator()
        call = Call(dialect.operation, scope["path"], dialect, translator, client=address_of(scope))
        trace = self.begin_trace(scope["headers"])
        if trace is not None:
            call.trace = trace
            send = trace.wrap_send(send)
        if translator is None:
            caller = Caller(scope, receive, send, self.deadlines)
        else:
            caller = TranslatedCaller(scope, receive, send, self.deadlines, translator)
        return self._serve(call, caller, self._answer)

    def pass_through(self, rule: Rule, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Pass one call to the provider of a rule and account for it."""
        caller = PassthroughCaller(scope, receive, send, self.deadlines)
        return self._pass(rule, scope, caller, self._passthrough.run)

    def pass_socket(self, rule: Rule, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Pass one WebSocket connection to the provider of a rule and account for it."""
        caller = WebSocketCaller(scope, receive, send, self.deadlines)
        return self._pass(rule, scope, caller, self._passthrough.run_socket)

    def _pass(
        self, rule: Rule, scope: MutableMapping[str, Any], caller: AnyCaller, run: Callable[..., Awaitable[None]]
    ) -> Coroutine[Any, Any, None]:
        call = Call("passthrough", scope["path"], client=address_of(scope), model=rule.pattern, route=rule.pattern)
        call.passed = PassedRequest(scope["method"], scope["raw_path"].decode("latin-1"))
        call.trace = self.begin_trace(scope["headers"])

        async def answer(call: Call, caller: AnyCaller) -> None:
            await self._identify(call, caller)
            call.tags = gateway_tags(caller.headers, self.known_headers)
            read_caller(call, caller.headers, self.known_headers)
            begin_hooks(self.hooks, call)
            backend = rule.backend
            if brought := read_credentials(caller.headers):
                call.credentials = brought_credentials(call.key, brought)
                backend = backend_with(backend, call.credentials)
            own_rule = rule if backend is rule.backend else structs.replace(rule, backend=backend)
            await run(call, caller, own_rule, scope["raw_path"])

        return self._serve(call, caller, answer)

    def begin(self, caller: Caller) -> None:
        """Count a call as in flight, and watch its caller."""
        self.watch.add(caller)
        self.metrics.begin()
        self.calls += 1

    async def _serve(self, call: Call, caller: AnyCaller, answer: Callable[[Call, AnyCaller], Awaitable[None]]) -> None:
        self.begin(caller)
        await self.finish(call, caller, answer)

    async def finish(self, call: Call, caller: AnyCaller, answer: Callable[[Call, AnyCaller], Awaitable[None]]) -> None:
        """Answer a call that has begun, and account for it."""
        try:
            await answer(call, caller)
        except GatewayError as error:
            await self._refuse(call, caller, error)
        except CallerDisconnectedError:
            caller.disconnected = True
        except asyncio.CancelledError:
            if not caller.disconnected:
                call.stream_end = call.stream_end or "drain"
                await self._refuse(call, caller, Unavailable("The gateway is shutting down.", code="server_shutting_down"))
                raise
            _uncancel()
            await self._leave(call, caller)
        except Exception as error:  # every call ends with a response and a log line
            self.report_internal(call, error)
            message = "Internal error: the gateway's log has the details under this request id."
            await self._refuse(call, caller, GatewayError(message))
        finally:
            self.watch.discard(caller)
            caller.close()
            try:
                await accounting.count_missing(call)
            finally:
                self.account(call, caller)

    def report_internal(self, call: Call, error: Exception) -> None:
        """Log and count an error of the gateway itself."""
        self._log.write(internal_error(call.id, error))
        self.metrics.count("lockgate_internal_errors")

    def begin_trace(self, headers: Headers) -> Trace | None:
        """Return the trace of a call, or None if calls are not traced."""
        return self.tracer.begin(headers) if self.tracer is not None else None

    def account(self, call: Call, caller: Caller) -> None:
        """Account for a call that has ended."""
        ended = time.monotonic()
        self.metrics.end(stream=call.stream)
        self.calls -= 1
        if caller.disconnected and not caller.finished:
            call.abort_phase = "write_stall" if caller.stalled and caller.head_sent else _phase(call, caller)
        accounting.settle(call)
        if call.reservation is not None and self.limits is not None:
            self.limits.settle(call, call.reservation)
        if call.answered_by is not None:
            call.answered_by.cost = accounting.answer_cost(call.answered_by)
        self.ledger.book(call, ended)
        if call.hooks is not None:
            settle_hooks(call, ended)
        self._call_metrics.record(call, ended)
        self._log.add(call, ended)
        if call.trace is not None:
            call.trace.end(call, self.metrics.model_label(call.model))

    async def _refuse(self, call: Call, caller: Caller, error: GatewayError) -> None:
        """Send an error: an HTTP response if none has begun, else the last event of the stream."""
        call.error = error
        try:
            call.error = error = await send_held(call, caller, error)
            body = error.as_body()
            if call.wants_receipt:
                body = await receipt.add_to_error(body, call)
            if caller.head_sent:
                await caller.fail(body)
            else:
                call.status = error.status
                call.first_byte_at = time.monotonic()
                await caller.respond(error.status, error_headers(call, error, len(body)), body)
        except asyncio.CancelledError:
            if not caller.disconnected:
                raise
            _uncancel()

    async def _leave(self, call: Call, caller: Caller) -> None:
        """End a call that was cancelled because its caller disconnected or stopped sending its body."""
        if caller.stalled and caller.reading_body:
            caller.disconnected = False
            await self._refuse(call, caller, body_timeout())

    async def _answer(self, call: Call, caller: Caller) -> None:
        await self._accept(call, caller)
        read_caller(call, caller.headers, self.known_headers)  # first, so that the log names the end user of a refused call
        model = self.router.find(call.model, call.key)
        call.route = model.name
        if not may_use(call.key, call.model):
            raise Forbidden(f"The key '{call.key.name if call.key else ''}' may not use the model '{model.name}'.", param="model")
        await hook_request(self.hooks, call)
        read_parameters(call)
        if call.stream:
            self.metrics.begin_stream()
        query = RouteQuery(call, caller.headers, self.default_output)
        if self.router.compares_costs(model):
            await query.count(candidate.backend.target for candidate in self.router.all_candidates(model))
        candidates = self.router.candidates(model, query)
        await self.run_route(call, caller, model, query, candidates)

    async def run_route(self, call: Call, caller: Caller, model: Model, query: RouteQuery, candidates: list[Candidate]) -> None:
        """Admit a call whose candidates have been chosen, and answer it."""
        alternates: Callable[[], list[Candidate]] = partial(self.router.alternates, model, query)
        if call.credentials:
            candidates, alternates = with_brought(candidates, call.credentials), brought_later(alternates, lambda: call.credentials)
        if query.needs_native:
            check_expressible(call, self.router.all_candidates(model))
        if self.limits is not None and (limits := self.limits.of_caller(call, model.name)):
            await self.limits.admit(call, limits, [candidate.backend.target for candidate in candidates])
        mirror = candidates[0].settings.mirror
        if mirror is not None and self._mirrors is not None:
            candidates_of = partial(self.router.candidates_of, mirror.target, query)
            self._mirrors.offer(call, caller.headers, mirror, candidates_of, self.failover)
        self.ledger.track(call)
        await self.failover.run(call, caller, candidates, alternates)

    async def _accept(self, call: Call, caller: Caller) -> None:
        """Authenticate the caller, then read the body, the gateway's headers and the name of the model."""
        headers = caller.headers
        try:
            self._authenticate(call, caller)
        except SigningKeyUnknownError:
            await self._identify(call, caller)
        check_body_headers(headers, self.max_body)
        source = caller.take_body()
        source = await read_body(caller.receive, self.max_body) if source is None else check_size(source, self.max_body)
        caller.reading_body = False
        call.read_at = time.monotonic()
        if call.key is not None and call.key.captures_content:
            call.content = caller.capture(source)
        if call.translator is not None:
            await self.storage.begin(call, caller, source)
        read_request(call, headers, source, self.known_headers, strict=self.strict)

    def _authenticate(self, call: Call, caller: Caller) -> None:
        try:
            call.key = self.keys.authenticate(caller.headers, caller.query)
        except (Unauthorized, Forbidden) as error:
            self._count_rejection(call, error)
            raise

    async def _identify(self, call: Call, caller: Caller) -> None:
        """Authenticate the caller. If the signing key of the caller's token is unknown, first fetch the issuer's keys."""
        try:
            call.key = await self.keys.identify(caller.headers, caller.query)
        except (Unauthorized, Forbidden) as error:
            self._count_rejection(call, error)
            raise

    def _count_rejection(self, call: Call, error: Unauthorized | Forbidden) -> None:
        """Count a rejected caller.

        If the credential belongs to a known key, store the key in the call, so that its records name the key.
        """
        self.metrics.count("lockgate_auth_failures", (str(error.code),))
        if isinstance(error, KeyRejectedError):
            call.key = error.key


def _phase(call: Call, caller: Caller) -> str:
    return "mid" if caller.head_sent else "pre" if call.is_written else "queue"


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
