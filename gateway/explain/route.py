"""Where calls for a model would go: its route as a tree with the reasons, and what many draws come to. Nobody is called.

The draws are the serving path's own: the router of a generation, asked as a call asks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import Call
from gateway.config.route import Order, Route, Split
from gateway.dialects.gateway_headers import read_gateway_headers
from gateway.dialects.parameters import check_parameters
from gateway.errors import GatewayError
from gateway.http.json_body import parse_body
from gateway.routing.route_query import RouteQuery
from gateway.routing.router import DEFAULT_SESSION_HEADER, Router
from gateway.targets.candidate import Model

if TYPE_CHECKING:
    from gateway.runtime.generation import Generation
    from gateway.targets.status import TargetView

HOW = {
    "weighted": "one of them for each call, drawn by weight",
    "latency": "of two drawn by weight, the one with the sooner first token (nothing has been measured here: by weight alone)",
    "least_busy": "of two drawn by weight, the one with fewer calls under way for its weight (none are under way here)",
    "cost": "the cheapest for this request; of several, drawn by weight",
}
NANO = 10**9


def plan(
    generation: Generation,
    model: str,
    sources: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    require: bool,
    views: Sequence[TargetView] | None = None,
) -> dict[str, Any]:
    """The tree for the first of `sources` (chat bodies), and one draw for each; GatewayError where a caller would get one.

    `views` are how a running gateway's targets fare: those that are left alone come last, as they do for callers.
    """
    resting = {one.target: one for one in views or () if one.state != "live"}
    router = generation.router if views is None else generation.router.assuming_live(lambda name: name not in resting)
    found = router.find(model)
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    output = generation.config.default_output_tokens
    orders: Counter[tuple[str, ...]] = Counter()
    mirrors: Counter[tuple[str, float]] = Counter()
    hedges: Counter[tuple[str, float]] = Counter()
    for source in sources:
        drawn = router.candidates(found, asking(source, lines, output, require=require))
        names = [choice.backend.target.name for choice in drawn]
        orders[tuple(sorted(names, key=lambda name: name in resting) if resting else names)] += 1
        if (mirror := drawn[0].settings.mirror) is not None:
            mirrors[str(mirror.target), mirror.share] += 1
        if (hedge := drawn[0].settings.hedge) is not None and len(drawn) > 1:
            hedges[str(hedge.after), hedge.budget] += 1
    tree = _Tree(router, asking(sources[0], lines, output, require=require), lines, None if views is None else resting)
    return {
        "model": model,
        "found": _found(found, model, generation.config.models),
        "route": tree.node(found.route, (found,)),
        **_counted(orders),
        "mirrors": [{"target": target, "share": share, "calls": calls} for (target, share), calls in mirrors.items()],
        "hedges": [{"after": after, "budget": budget, "calls": calls} for (after, budget), calls in hedges.items()],
    }


def joined(plans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plans for parts of the same calls as one."""
    orders: Counter[tuple[str, ...]] = Counter()
    for one in plans:
        for order in one["orders"]:
            orders[tuple(order["targets"])] += order["calls"]
    beside = {name: _summed(one for each in plans for one in each[name]) for name in ("mirrors", "hedges")}
    return {**plans[-1], **_counted(orders), **beside}


def _summed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that differ in their calls alone as one."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        known = found.setdefault(tuple(value for name, value in row.items() if name != "calls"), {**row, "calls": 0})
        known["calls"] += row["calls"]
    return list(found.values())


def _counted(orders: Counter[tuple[str, ...]]) -> dict[str, Any]:
    first = Counter[str]()
    for names, count in orders.items():
        first[names[0]] += count
    return {
        "calls": orders.total(),
        "first": dict(first.most_common()),
        "orders": [{"targets": list(names), "calls": count} for names, count in orders.most_common()],
    }


def bodies(model: str, count: int, user: str | None, body: Mapping[str, Any] | None) -> list[bytes]:
    """The body of each call: this one, or short chats that begin differently."""
    more = {"model": model, **({"user": user} if user else {})}
    if body is not None:
        return [msgspec.json.encode({**body, **more})] * count
    return [msgspec.json.encode({"messages": [{"role": "user", "content": f"Call {at}"}], **more}) for at in range(count)]


def asking(source: bytes, headers: Sequence[tuple[bytes, bytes]], output: int, *, require: bool) -> RouteQuery:
    """A chat call as its route sees it."""
    call = Call("chat", "/v1/chat/completions")
    call.body = parse_body(source)
    call.body_bytes = len(source)
    check_parameters(call.body)
    call.stream = call.body.get("stream") is True
    wanted = read_gateway_headers(headers)
    call.strict, call.require = wanted.strict, wanted.require_parameters or require
    return RouteQuery(call, headers, output)


def _found(model: Model, name: str, known: Container[str]) -> str:
    if model.name not in known:
        return "a target that callers may ask for (expose_targets)"
    return "by its name" if model.name == name else f"by the pattern '{model.name}', the longest that fits"


class _Tree:
    """Makes nodes of routes: plain values for JSON."""

    def __init__(
        self, router: Router, asking: RouteQuery, headers: Sequence[tuple[bytes, bytes]], resting: Mapping[str, TargetView] | None
    ) -> None:
        """`resting`: the targets that are left alone; None when no gateway runs that could tell."""
        self._router = router
        self._asking = asking
        self._headers = headers
        self._resting = resting or {}
        self._running = resting is not None

    def node(self, route: Route, path: tuple[Model, ...]) -> dict[str, Any]:
        """A target, another model with its own route, an order or a split."""
        if isinstance(route, Order):
            return {"order": [self.node(step, path) for step in route.steps]}
        if isinstance(route, Split):
            return self._split(route, path)
        if route.provider is None:
            model = self._router.model_named(route.model)
            return {"model": model.name, "route": self.node(model.route, (*path, model))}
        (choice,) = self._router.candidates_behind(route, path)
        target = choice.backend.target
        found: dict[str, Any] = {"target": target.name}
        if choice.settings.retries:
            found["retries"] = choice.settings.retries
        if not self._asking.is_accepted_by(choice):
            found["skipped"] = self._asking.no_target_error(target).message
        if (view := self._resting.get(target.name)) is not None:
            found |= {"state": view.state, "reason": view.reason, "seconds": view.cooling_seconds}
        return found

    def _split(self, split: Split, path: tuple[Model, ...]) -> dict[str, Any]:
        settings = path[-1].settings
        kind = settings.balance or "weighted"
        whole = sum(weight for _, weight in split.choices)
        options = self._router.options(split, path) if kind == "cost" else ()
        prices = {one.name: self._router.expected_cost(one, self._asking) for one in options}
        choices = []
        for ref, weight in split.choices:
            one = {"share": round(weight / whole, 6), **self.node(ref, path)}
            if str(ref) in prices:
                one["usd"] = prices[str(ref)] / NANO
            choices.append(one)
        how = HOW.get(kind) or self._session(settings.session_header or DEFAULT_SESSION_HEADER)
        return {"split": choices, "balance": kind, "how": how.partition(" (n")[0] if self._running else how}

    def _session(self, header: str) -> str:
        by = {"h": f"the header {header}", "u": "user", "p": "how the prompt begins"}[self._asking.session(header)[:1].decode()]
        return f"the same one for the same session, here told by {by}"


def show(found: Mapping[str, Any]) -> str:
    """A plan as text for people."""
    lines = [f"{found['model']}  (found {found['found']})", *_branch(found["route"], "", "")]
    lines += ["", f"{found['calls']:,} {'calls' if found['calls'] != 1 else 'call'} would go"]
    width = max(len(names) for names in (", then ".join(order["targets"]) for order in found["orders"]))
    for order in found["orders"]:
        share = order["calls"] / found["calls"]
        names = ", then ".join(order["targets"])
        lines.append(f"  {share:>6.1%}  {names:<{width}}  {order['calls']:>7,}  {'█' * round(share * 30)}".rstrip())
    for one in found["hedges"]:
        most = f"at most {one['budget'] * 100:g}% of {_these(one, found)}"
        lines.append(f"hedged: the next is asked too after {one['after']} of silence, for {most}")
    for one in found["mirrors"]:
        lines.append(f"mirrored: {one['target']} gets a copy of {one['share'] * 100:g}% of {_these(one, found)}")
    return "\n".join(lines)


def _these(one: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return "the calls" if one["calls"] == found["calls"] else f"{one['calls']:,} of the calls"


def _branch(node: Mapping[str, Any], first: str, rest: str) -> Iterator[str]:
    """The lines of a node: its title after `first`, what is below it after `rest`."""
    below: list[tuple[str, Mapping[str, Any]]] = []
    if "order" in node:
        title = "in this order, the next when one fails" if len(node["order"]) > 1 else "always"
        below = [(f"{at}. ", step) for at, step in enumerate(node["order"], 1)]
    elif "split" in node:
        title = f"split, {node['balance']}: {node['how']}"
        below = [(f"{one['share']:.1%}{_price(one)}  ", one) for one in node["split"]]
    elif "model" in node:
        title, below = f"model {node['model']}", [("", node["route"])]
    else:
        title = node["target"] + (f" (up to {node['retries'] + 1} tries)" if "retries" in node else "")
        title += f"  SKIPPED: {node['skipped']}" if "skipped" in node else ""
        title += f"  {_rest(node)}" if "state" in node else ""
    yield first + title
    for at, (label, child) in enumerate(below):
        last = at == len(below) - 1
        yield from _branch(child, f"{rest}{'└── ' if last else '├── '}{label}", f"{rest}{'    ' if last else '│   '}")


def _rest(node: Mapping[str, Any]) -> str:
    if node["state"] == "probing":
        return "PROBING: one call finds out whether it is back"
    return f"COOLING for {node['seconds'] or 0:.0f} s more ({node['reason']})"


def _price(one: Mapping[str, Any]) -> str:
    return f"  {one['usd']:.6f} USD" if "usd" in one else ""


def refused(error: GatewayError) -> str:
    """What a caller would get instead, in one line."""
    about = f" about '{error.param}'" if error.param else ""
    return f"a caller would get {error.status} {error.code}{about}: {error.message}"
