"""Merging the plans of slices, bodies of simulated calls, and error texts."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import NotFound
from gateway.explain.route import error_text, merge_plans, simulated_bodies


def plan(first: str, calls: int, mirrors: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a plan in which `first` got all calls."""
    order = {"targets": [first, "a/z"], "calls": calls}
    return {"model": "m", "calls": calls, "first": {first: calls}, "orders": [order], "mirrors": mirrors, "hedges": []}


def test_merged_plans_add_up_orders_and_mirrors() -> None:
    mirror = {"target": "a/z", "share": 0.1, "calls": 2}
    merged = merge_plans([plan("a/x", 2, [mirror]), plan("a/y", 3, []), plan("a/x", 4, [{**mirror, "calls": 1}])])
    assert (merged["calls"], merged["first"]) == (9, {"a/x": 6, "a/y": 3})
    assert merged["mirrors"] == [{**mirror, "calls": 3}]


def test_simulated_chats_differ_and_a_given_body_is_repeated() -> None:
    chats = [json.loads(body) for body in simulated_bodies("m", 3, "ann", None)]
    assert len({chat["messages"][0]["content"] for chat in chats}) == 3
    assert {(chat["model"], chat["user"]) for chat in chats} == {("m", "ann")}
    repeated = simulated_bodies("m", 2, None, {"messages": [], "model": "other"})
    assert [json.loads(body) for body in repeated] == [{"messages": [], "model": "m"}] * 2


def test_error_text_names_status_code_and_parameter() -> None:
    error = NotFound("No such model.", param="model", code="model_not_found")
    assert error_text(error) == "a caller would get 404 model_not_found for 'model': No such model."
