"""Plans as text.

The plan of a request has one block per target; the plan of a route is a tree with the distribution of simulated calls.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

MAX_VALUE_CHARS = 88
"""Longer values are cut; JSON output has them in full."""
WIDTH = 120
BAR_WIDTH = 30


def request_text(plan: Mapping[str, Any]) -> str:
    """Return the plan of a request as text, or the error that a caller would get."""
    plan = msgspec.json.decode(msgspec.json.encode(plan))
    if "error" in plan:
        return "\n".join(_rejected(plan["error"], plan.get("status", 400), ""))
    mode = "strict" if plan["strict"] else "lenient"
    pattern = "" if plan["route"] == plan["model"] else f", by '{plan['route']}'"
    lines = [f"{plan['model']}{pattern}, {mode}"]
    for number, target in enumerate(plan["targets"], 1):
        lines += ["", f"{number}. {target['target']} ({target['type']})", *_target(target)]
    return "\n".join(lines)


def _target(target: Mapping[str, Any]) -> Iterator[str]:
    if "error" in target:
        yield from _rejected(target["error"], 400, "   ")
        return
    request = target["request"]
    yield f"   {request['method']} {request['url']}"
    yield from _block("headers", [(name, value) for name, value in request["headers"].items()])
    bodies = request["bodies"] if "bodies" in request else [request["body"]]
    for number, body in enumerate(bodies, 1):
        title = "body" if len(bodies) == 1 else f"body {number}/{len(bodies)}"
        yield from _block(title, [(name, _short(value)) for name, value in body.items()])
    adjustments = [(adjustment["param"], _change(adjustment)) for adjustment in target["adjustments"]]
    yield from _block("adjusted", adjustments or [("nothing", "")])
    yield from _block("fallback", [("also on", ", ".join(target["fallback_on"]))] if "fallback_on" in target else [])


def _rejected(error: Mapping[str, Any], status: int, indent: str) -> Iterator[str]:
    parameter = f" for '{error['param']}'" if error.get("param") else ""
    text = f"rejected with {status} {error.get('code') or error['type']}{parameter}: {error['message']}"
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _block(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield rows of two columns, with a title in the margin."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *rest = textwrap.wrap(value, WIDTH - width - 17) or [""]
        yield f"   {title:<10} {name:<{width}}  {first}".rstrip()
        yield from (f"   {'':<10} {'':<{width}}  {line}" for line in rest)
        title = ""


def _change(adjustment: Mapping[str, Any]) -> str:
    """Return the action of an adjustment with its values and reason."""
    before, after = (_short(adjustment[side]) if adjustment.get(side) is not None else "" for side in ("from", "to"))
    values = (
        f" {before} -> {after}" if before and after else f" to {after}" if after else f" {before}" if before else ""
    )
    return f"{adjustment['action']}{values}" + (f" ({adjustment['why']})" if adjustment.get("why") else "")


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}… ({len(text)} characters)"


def route_text(plan: Mapping[str, Any]) -> str:
    """Return the plan of a route as text."""
    lines = [f"{plan['model']}  (found {plan['found']})", *_branch(plan["route"], "", "")]
    lines += ["", f"{plan['calls']:,} simulated {'calls' if plan['calls'] != 1 else 'call'}"]
    width = max(len(", then ".join(order["targets"])) for order in plan["orders"])
    for order in plan["orders"]:
        share = order["calls"] / plan["calls"]
        targets = ", then ".join(order["targets"])
        lines.append(
            f"  {share:>6.1%}  {targets:<{width}}  {order['calls']:>7,}  {'█' * round(share * BAR_WIDTH)}".rstrip()
        )
    for hedge in plan["hedges"]:
        lines.append(
            f"hedged: the next target gets a second request after {hedge['after']} without an answer, "
            f"for at most {hedge['budget'] * 100:g}% of {_which_calls(hedge, plan)}"
        )
    for mirror in plan["mirrors"]:
        share = f"{mirror['share'] * 100:g}% of {_which_calls(mirror, plan)}"
        lines.append(f"mirrored: {mirror['target']} gets a copy of {share}")
    return "\n".join(lines)


def _which_calls(row: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    return "the calls" if row["calls"] == plan["calls"] else f"{row['calls']:,} of the calls"


def _branch(node: Mapping[str, Any], first: str, rest: str) -> Iterator[str]:
    """Yield the lines of a node: its title after `first`, its children after `rest`."""
    children: list[tuple[str, Mapping[str, Any]]] = []
    if "order" in node:
        title = "in this order, the next one on failure" if len(node["order"]) > 1 else "always"
        children = [(f"{number}. ", step) for number, step in enumerate(node["order"], 1)]
    elif "split" in node:
        title = f"split, {node['balance']}: {node['how']}"
        children = [(f"{branch['share']:.1%}{_cost(branch)}  ", branch) for branch in node["split"]]
    elif "model" in node:
        title, children = f"model {node['model']}", [("", node["route"])]
    else:
        title = node["target"] + (f" (up to {node['retries'] + 1} attempts)" if "retries" in node else "")
        if "fallback_on" in node:
            title += f", next target also after {' and '.join(node['fallback_on'])}"
        title += f"  SKIPPED: {node['skipped']}" if "skipped" in node else ""
        title += f"  {_health(node)}" if "state" in node else ""
    yield first + title
    for number, (label, child) in enumerate(children, 1):
        last = number == len(children)
        yield from _branch(child, f"{rest}{'└── ' if last else '├── '}{label}", f"{rest}{'    ' if last else '│   '}")


def _health(node: Mapping[str, Any]) -> str:
    if node["state"] == "probing":
        return "PROBING: one call at a time until it recovers"
    return f"COOLDOWN: {node['seconds'] or 0:.0f} s left ({node['reason']})"


def _cost(node: Mapping[str, Any]) -> str:
    return f"  {node['usd']:.6f} USD" if "usd" in node else ""
