"""A model's route as a tree with the reason for each choice, and the distribution of simulated calls over the targets.

These are plain values for JSON; `text.py` prints them. Simulated calls use the same router and queries as
real calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.attempts.read_request import headers_known_to
from gateway.call import Call
from gateway.config.route import Order, Route, Split
from gateway.config.types import Config
from gateway.dialects.parameters import check_parameters
from gateway.dialects.request_headers import KnownHeaders, read_headers
from gateway.errors import GatewayError
from gateway.http.json_body import parse_body
from gateway.routing.discovered import DiscoveredModels
from gateway.routing.route_query import RouteQuery
from gateway.routing.router import DEFAULT_SESSION_HEADER, Router
from gateway.targets.candidate import Model
from gateway.tokens.prompt import PromptCounts

if TYPE_CHECKING:
    from gateway.targets.status import TargetView

_Headers = Sequence[tuple[bytes, bytes]]
POLICIES = {
    "weighted": "one of them for each call, drawn by weight",
    "latency": "of two drawn by weight, the one with the shorter time to first token",
    "least_busy": "of two drawn by weight, the one with fewer attempts in flight in proportion to its weight",
    "prefix": "of those without too many attempts in flight, the one that got the longest part of the prompt before",
    "cost": "the cheapest for this request; of equally cheap ones, drawn by weight",
}
UNMEASURED = {
    "latency": " (a dry run has no measurements, so it draws by weight alone)",
    "least_busy": " (no attempts are in flight in a dry run)",
    "prefix": " (a dry run has no record of earlier prompts)",
}
NANO = 10**9


async def plan_route(
    router: Router,
    config: Config,
    name: str,
    bodies: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    require_parameters: bool,
    views: Sequence[TargetView] | None = None,
) -> dict[str, Any]:
    """Return the route of a model as a tree, and the routing of one call for each of `bodies`.

    The tree is that of the first body. `views` is the health of a running gateway's targets: targets that are not live come
    last. Raise the GatewayError that a caller would get.
    """
    not_live = {view.target: view for view in views or () if view.state != "live"}
    if views is not None:
        router = router.assuming_live(lambda target: target not in not_live)
    model = router.find(name)
    header_lines = [(field.lower().encode(), value.encode("latin-1")) for field, value in headers.items()]
    output, known = config.default_output_tokens, headers_known_to(config)
    counts = await _counts(router, model, bodies)
    orders: Counter[tuple[str, ...]] = Counter()
    mirrors: Counter[tuple[str, float]] = Counter()
    hedges: Counter[tuple[str, float]] = Counter()
    for body in bodies:
        query = _query(body, header_lines, known, output, counts, require_parameters=require_parameters)
        candidates = router.candidates(model, query)
        names = [candidate.backend.target.name for candidate in candidates]
        orders[tuple(sorted(names, key=lambda target: target in not_live) if not_live else names)] += 1
        settings = candidates[0].settings
        if settings.mirror is not None:
            mirrors[str(settings.mirror.target), settings.mirror.share] += 1
        if settings.hedge is not None and len(candidates) > 1:
            hedges[str(settings.hedge.after), settings.hedge.budget] += 1
    first_query = _query(bodies[0], header_lines, known, output, counts, require_parameters=require_parameters)
    tree = _Tree(router, first_query, None if views is None else not_live)
    return {
        "model": name,
        "found": _how_found(model, name, config.models, router.discovered),
        "route": tree.node(model.route, (model,)),
        **_distribution(orders),
        "mirrors": [{"target": target, "share": share, "calls": calls} for (target, share), calls in mirrors.items()],
        "hedges": [{"after": after, "budget": budget, "calls": calls} for (after, budget), calls in hedges.items()],
    }


def merge_plans(plans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge plans for parts of the same simulated calls."""
    orders: Counter[tuple[str, ...]] = Counter()
    for plan in plans:
        for order in plan["orders"]:
            orders[tuple(order["targets"])] += order["calls"]
    rows = {name: _merge_rows(row for plan in plans for row in plan[name]) for name in ("mirrors", "hedges")}
    return {**plans[-1], **_distribution(orders), **rows}


def _merge_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add up the calls of rows that are otherwise equal."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(value for name, value in row.items() if name != "calls")
        merged.setdefault(key, {**row, "calls": 0})["calls"] += row["calls"]
    return list(merged.values())


def _distribution(orders: Counter[tuple[str, ...]]) -> dict[str, Any]:
    first = Counter[str]()
    for targets, count in orders.items():
        first[targets[0]] += count
    return {
        "calls": orders.total(),
        "first": dict(first.most_common()),
        "orders": [{"targets": list(targets), "calls": count} for targets, count in orders.most_common()],
    }


def simulated_bodies(model: str, count: int, user: str | None, body: Mapping[str, Any] | None) -> list[bytes]:
    """Return the body of each simulated call: `body`, or short chats that begin differently."""
    fields = {"model": model, **({"user": user} if user else {})}
    if body is not None:
        return [msgspec.json.encode({**body, **fields})] * count
    chats = ({"messages": [{"role": "user", "content": f"Call {number}"}], **fields} for number in range(count))
    return [msgspec.json.encode(chat) for chat in chats]


async def _counts(router: Router, model: Model, bodies: Sequence[bytes]) -> PromptCounts | None:
    """Count the prompt as for a real call if all simulated calls have the same body and the route compares costs; else return None."""
    if bodies[0] is not bodies[-1] or not router.compares_costs(model):
        return None
    counts = PromptCounts(parse_body(bodies[0]), len(bodies[0]))
    await counts.count(candidate.backend.target for candidate in router.all_candidates(model))
    return counts


def _query(
    source: bytes,
    headers: _Headers,
    known: KnownHeaders,
    default_output: int,
    counts: PromptCounts | None,
    *,
    require_parameters: bool,
) -> RouteQuery:
    """Return the router's query for a chat call."""
    call = Call("chat", "/v1/chat/completions")
    call.body = parse_body(source)
    call.body_bytes, call.counts = len(source), counts
    check_parameters(call.body)
    call.stream = call.body.get("stream") is True
    call.requires_parameters = require_parameters
    if (found := read_headers(headers, known)) is not None:
        call.headers, call.strict = found, found.gateway.strict
        call.requires_parameters = found.gateway.require_parameters or require_parameters
    return RouteQuery(call, headers, default_output)


def _how_found(model: Model, name: str, configured: Container[str], discovered: DiscoveredModels) -> str:
    if model.name not in configured:
        if discovered.find(name) is not None:
            assumed = "" if name in discovered.models else "; a dry run does not check this"
            return f"as a model that its provider lists (discover){assumed}"
        return "as a target (expose_targets)"
    return "by its name" if model.name == name else f"by the pattern '{model.name}', the longest that matches"


class _Tree:
    """Builds the nodes of a route's tree as plain values for JSON."""

    def __init__(self, router: Router, query: RouteQuery, not_live: Mapping[str, TargetView] | None) -> None:
        """`not_live` contains the targets in cooldown or being probed; it is None if no gateway is running."""
        self._router = router
        self._query = query
        self._not_live = not_live or {}
        self._running = not_live is not None

    def node(self, route: Route, path: tuple[Model, ...]) -> dict[str, Any]:
        """Return the node of a target, of another model with its route, of an order or of a split."""
        if isinstance(route, Order):
            return {"order": [self.node(step, path) for step in route.steps]}
        if isinstance(route, Split):
            return self._split(route, path)
        if route.provider is None:
            model = self._router.model_named(route.model)
            return {"model": model.name, "route": self.node(model.route, (*path, model))}
        (candidate,) = self._router.candidates_behind(route, path)
        target = candidate.backend.target
        node: dict[str, Any] = {"target": target.name}
        if candidate.settings.retries:
            node["retries"] = candidate.settings.retries
        if candidate.settings.fallback_on:
            node["fallback_on"] = candidate.settings.fallback_on
        if not self._query.is_accepted_by(candidate):
            node["skipped"] = self._query.no_target_error(target).message
        if (view := self._not_live.get(target.name)) is not None:
            node |= {"state": view.state, "reason": view.reason, "seconds": view.cooling_seconds}
        return node

    def _split(self, split: Split, path: tuple[Model, ...]) -> dict[str, Any]:
        settings = path[-1].settings
        policy = settings.balance or "weighted"
        total = sum(weight for _, weight in split.choices)
        options = self._router.options(split, path) if policy == "cost" else ()
        costs = {option.name: self._router.expected_cost(option, self._query) for option in options}
        branches = []
        for ref, weight in split.choices:
            branch = {"share": round(weight / total, 6), **self.node(ref, path)}
            if str(ref) in costs:
                branch["usd"] = costs[str(ref)] / NANO
            branches.append(branch)
        how = POLICIES.get(policy) or self._session_policy(settings.session_header or DEFAULT_SESSION_HEADER)
        return {
            "split": branches,
            "balance": policy,
            "how": how + ("" if self._running else UNMEASURED.get(policy, "")),
        }

    def _session_policy(self, header: str) -> str:
        source = {"h": f"the header {header}", "u": "user", "p": "the beginning of the prompt"}
        return f"always the same one for a session, identified by {source[self._query.session(header)[:1].decode()]}"


def error_text(error: GatewayError) -> str:
    """Return, as one line, the error that a caller would get."""
    parameter = f" for '{error.param}'" if error.param else ""
    return f"a caller would get {error.status} {error.code}{parameter}: {error.message}"
