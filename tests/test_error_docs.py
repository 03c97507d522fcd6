"""docs/errors.md lists every error code in the source, with its status, and no other code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gateway.errors import FAILURES, BadRequest, Forbidden, LimitReached, NotFound, RequestTooLarge, Unauthorized, Unavailable

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
POSITIONS = {"refuse": 2, "Refusal": 2, "drop": 2, "Consequence": 1, "Failure": 3}
"""The position of the code among the arguments of these calls."""
NOT_AN_ERROR_CODE = {
    "bad_model", "missing_model",  # states of the local engine, shown by /readyz
}  # fmt: skip


def strings(node: ast.AST | None) -> Iterator[str]:
    """Yield the strings an expression may evaluate to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*strings(node.body), *strings(node.orelse))
    elif isinstance(node, ast.BoolOp):
        yield from (text for value in node.values for text in strings(value))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Dict):
        yield from (text for value in (*node.func.value.values, *node.args[1:]) for text in strings(value))


def in_call(node: ast.Call) -> Iterator[str]:
    """Yield the codes among the arguments of a call."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from strings(keyword.value)
    if name in POSITIONS and len(node.args) > POSITIONS[name]:
        yield from strings(node.args[POSITIONS[name]])


def in_defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the default values of parameters that are called `code`."""
    positional = [*node.args.posonlyargs, *node.args.args]
    pairs = [*zip(positional[len(positional) - len(node.args.defaults) :], node.args.defaults, strict=True)]
    pairs += [(name, value) for name, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value is not None]
    for parameter, default in pairs:
        if parameter.arg == "code":
            yield from strings(default)


def in_assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """Yield the values that are assigned to a name or attribute `code`, alone or in a tuple, and the codes of `Problem` constants."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if getattr(getattr(node, "annotation", None), "id", None) == "Problem" and isinstance(node.value, ast.Tuple):
            yield from strings(node.value.elts[1])  # gateway.http.connection: status, code, message
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for name, value in pairs:
            if getattr(name, "id", None) == "code" or getattr(name, "attr", None) == "code":
                yield from strings(value)


@cache
def codes() -> set[str]:
    """Return every error code in the source."""
    found: set[str] = set()
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found.update(in_call(node))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.update(in_defaults(node))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                found.update(in_assignment(node))
    return {code for code in found if re.fullmatch(r"[a-z]+(_[a-z]+)+|overloaded", code)} - NOT_AN_ERROR_CODE


def rows() -> dict[str, str]:
    """Return the status of every code on the page."""
    found = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), "a code is listed twice"
    return dict(found)


def test_page_lists_every_error_code_of_the_source() -> None:
    assert sorted(codes() - rows().keys()) == []


def test_page_lists_no_other_code() -> None:
    assert sorted(rows().keys() - codes() - {"worker_lost"}) == []


def test_page_gives_the_status_of_each_failure() -> None:
    listed = rows()
    assert {kind: row.code for kind, row in FAILURES.items() if str(row.status) not in listed[row.code]} == {}


def test_page_gives_the_status_of_each_error_class() -> None:
    listed = rows()
    classes = [BadRequest, Unauthorized, Forbidden, NotFound, RequestTooLarge, LimitReached, Unavailable]
    assert [one.__name__ for one in classes if str(one.status) not in listed[str(one.code)]] == []


def test_collector_finds_codes_in_each_form() -> None:
    source = """
class A:
    status, code = 400, "in_tuple"
def f(code: str = "in_default"): ...
raise B(code="in_keyword" if x else "in_branch")
refuse(param, message, "in_position")
UPGRADE: Problem = (426, "in_problem", "text")
"""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found.update(in_call(node))
        elif isinstance(node, ast.FunctionDef):
            found.update(in_defaults(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found.update(in_assignment(node))
    assert found == {"in_tuple", "in_default", "in_keyword", "in_branch", "in_position", "in_problem"}
