"""The fast lane: serves a call from the callback that read it to the callback that reads its answer, without a task.

It serves complete requests of the APIs in `APIS` of at most MAX_BODY_BYTES whose key, model and parameters are valid. Of the
headers that `gateway.dialects.request_headers` reads, such requests have at most x-request-id and those of vendors. Only
JSON answers to chat completions, and native attempts, have stop strings or JSON mode. The requests neither store nor continue a
response, and they are not fitted into a context window. Their first target is live, is reached over the native transport,
and has no hedge, mirror, cache, engine, continuation, repair of JSON or `fallback_on`. No limit is strict, no route compares
costs, no call is traced, and the content of the calls is not captured.

The results are those of the pipeline, because the fast lane takes the same steps in the same order, with the same
functions. Nothing is recorded before a call has entered the fast lane, so the pipeline can serve any other call from its
beginning. The exception is a call for which a split has chosen an option: a task of the pipeline continues with that choice,
because a second choice would change the shares of the options. A call that has entered is handed over to a task of the
pipeline if anything irregular happens: a refusal, an error of the upstream, an answer that cannot be read, a caller that
disconnects or reads slowly, or a shutdown. The task finds the same state as if it had served the call from its beginning:
see `gateway.fast.hand_over`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gateway.attempts.read_request import read_caller, read_parameters, read_request
from gateway.call import Call
from gateway.dialects.dialect import Dialect
from gateway.dialects.gateway_headers import GatewayHeaders
from gateway.dialects.request_headers import CallerHeaders
from gateway.dialects.table import CHAT, COHERE_CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, call_paths
from gateway.fast.fast_call import FastCall
from gateway.fast.hand_over import LaneCall, Route
from gateway.http.caller import address_of
from gateway.http.cycle import RequestCycle
from gateway.http.json_body import check_body_headers
from gateway.keys.virtual_key import may_use
from gateway.native.request import check_expressible
from gateway.pipeline import Pipeline
from gateway.routing.route_query import RouteQuery
from gateway.store.limit import Costs, Limit
from gateway.targets.candidate import Candidate
from gateway.upstream.native_transport import NativeTransport

MAX_BODY_BYTES = 256 << 10
APIS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COHERE_CHAT)
"""The APIs whose calls may enter. Their attempts may be native or translated."""
_PATHS = call_paths(APIS)
_NO_SETTINGS = GatewayHeaders()


class FastLane:
    """The fast lane of one configuration."""

    def __init__(self, pipeline: Pipeline, *, is_open: bool, base_path: str | None = None) -> None:
        """If `is_open` is False, the pipeline serves every call of this configuration.

        It also serves the paths below `base_path`, such as `/v1/messages` below `/v1`, because the base path is removed from them.
        """
        self._pipeline = pipeline
        self._dialect_of = {path: each for path, each in _PATHS.items() if not base_path or not path.startswith(f"{base_path}/")}
        self._is_open = is_open and pipeline.tracer is None
        self._max_body = min(MAX_BODY_BYTES, pipeline.max_body)

    def serve(self, cycle: RequestCycle) -> bool:
        """Serve a complete request. If the request needs the pipeline, record nothing and return False."""
        scope = cycle.scope
        dialect = self._dialect_of.get(scope["path"])
        if dialect is None or not self._is_open or scope["method"] != "POST" or len(cycle.body) > self._max_body:
            return False
        try:
            routed = self._read(cycle, dialect)
        except Exception:
            return False  # the pipeline gets the same error and reports it
        if routed is None:
            return False
        call, route = routed
        try:
            reservable = self._limits_of(call, route)
        except Exception:
            reservable = None  # as above
        if reservable is not None:
            FastCall(self._pipeline, cycle, call, route).start(*reservable)
        elif route.query.is_drawn:
            LaneCall(self._pipeline, cycle, call, route).start_in_task()
        return reservable is not None or route.query.is_drawn

    def _read(self, cycle: RequestCycle, dialect: Dialect) -> tuple[Call, Route] | None:
        """Return the call of a request, and its route; None if the call needs the pipeline."""
        pipeline, headers = self._pipeline, cycle.scope["headers"]
        call = Call(dialect.operation, cycle.scope["path"], dialect, dialect.translator(), client=address_of(cycle.scope))
        call.key = pipeline.keys.authenticate(headers, cycle.scope["query_string"])
        check_body_headers(headers, pipeline.max_body)
        call.read_at = time.monotonic()
        source = bytes(cycle.body)
        if call.translator is not None and pipeline.storage.wishes_of(call, source) is not None:
            return None
        read_request(call, headers, source, pipeline.known_headers, strict=pipeline.strict)
        if call.headers is not None and not _has_no_settings(call.headers):
            return None
        model = pipeline.router.find(call.model, call.key)
        call.route = model.name
        if call.key is not None and call.key.captures_content:
            return None
        if not may_use(call.key, call.model) or pipeline.router.compares_costs(model):
            return None
        read_parameters(call)
        read_caller(call, headers, pipeline.known_headers)
        if call.wants_fit or call.credentials or call.body is None:
            return None
        is_emulated = call.source is None and (call.stream or call.translator is not None or call.operation != "chat")
        if is_emulated and (call.stops or "response_format" in call.body):
            return None
        query = RouteQuery(call, headers, pipeline.default_output)
        candidates = pipeline.router.candidates(model, query)
        transport: Any = candidates[0].backend.transport  # a NativeTransport, as `_is_plain` checks
        return call, Route(model, query, candidates, transport)

    def _limits_of(self, call: Call, route: Route) -> tuple[Sequence[Limit], Costs | None] | None:
        """Return the limits of a call and the amounts to reserve; None if its candidates or its limits need the pipeline."""
        pipeline, model, query, candidates = self._pipeline, route.model, route.query, route.candidates
        if query.needs_native:
            check_expressible(call, pipeline.router.all_candidates(model))
        first = candidates[0]
        if not self._is_plain(first):
            return None
        limits = pipeline.limits.of_caller(call, model.name) if pipeline.limits is not None else ()
        costs = None
        if pipeline.limits is not None and limits:
            targets = [candidate.backend.target for candidate in candidates]
            costs = pipeline.limits.costs_now(call, limits, targets)
            if costs is None:
                return None
        return limits, costs

    def _is_plain(self, candidate: Candidate) -> bool:
        """Return whether calls to a candidate need nothing that only the pipeline offers."""
        settings, backend = candidate.settings, candidate.backend
        if settings.mirror is not None or settings.hedge is not None or settings.context is not None or settings.fallback_on is not None:
            return False
        if settings.cache is not None:
            return False
        if settings.continue_on_cut or settings.json_repair or backend.engine is not None or backend.finishes_reading:
            return False
        if not isinstance(backend.transport, NativeTransport):
            return False
        return not (backend.target.kind.always_streams or backend.target.brought)


def _has_no_settings(headers: CallerHeaders) -> bool:
    """Return whether a request has neither the gateway's own headers nor those of tracing."""
    return headers.gateway == _NO_SETTINGS and not headers.trace
