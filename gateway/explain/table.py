"""A plan of `explain` as text for people: the route in order, and for each target the request or the reason why there is none."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

SHOWN = 88
"""Characters of one value; JSON output has all of it."""
WIDTH = 120


def table(found: Mapping[str, Any]) -> str:
    """The text of a plan, or of the error that a caller would get instead."""
    plan: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    if "error" in plan:
        return "\n".join(_refused(plan["error"], plan.get("status", 400), ""))
    mode = "strict" if plan["strict"] else "lenient"
    through = "" if plan["route"] == plan["model"] else f", by '{plan['route']}'"
    lines = [f"{plan['model']}{through}, {mode}"]
    for at, target in enumerate(plan["targets"], 1):
        lines += ["", f"{at}. {target['target']} ({target['type']})", *_target(target)]
    return "\n".join(lines)


def _target(target: Mapping[str, Any]) -> Iterator[str]:
    if "error" in target:
        yield from _refused(target["error"], 400, "   ")
        return
    request = target["request"]
    yield f"   {request['method']} {request['url']}"
    yield from _block("headers", [(name, value) for name, value in request["headers"].items()])
    bodies = request["bodies"] if "bodies" in request else [request["body"]]
    for at, body in enumerate(bodies, 1):
        title = "body" if len(bodies) == 1 else f"body {at}/{len(bodies)}"
        yield from _block(title, [(name, _short(value)) for name, value in body.items()])
    yield from _block("adjusted", [(one["param"], _change(one)) for one in target["adjustments"]] or [("nothing", "")])


def _refused(error: Mapping[str, Any], status: int, indent: str) -> Iterator[str]:
    about = f" about '{error['param']}'" if error.get("param") else ""
    text = f"refused with {status} {error.get('code') or error['type']}{about}: {error['message']}"
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _block(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Rows of two columns under a title in the margin."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *rest = textwrap.wrap(value, WIDTH - width - 17) or [""]
        yield f"   {title:<10} {name:<{width}}  {first}".rstrip()
        yield from (f"   {'':<10} {'':<{width}}  {line}" for line in rest)
        title = ""


def _change(one: Mapping[str, Any]) -> str:
    """What was done with one parameter, from and to, and why."""
    before, after = (_short(one[side]) if one.get(side) is not None else "" for side in ("from", "to"))
    sides = f" {before} -> {after}" if before and after else f" to {after}" if after else f" {before}" if before else ""
    return f"{one['action']}{sides}" + (f" ({one['why']})" if one.get("why") else "")


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
