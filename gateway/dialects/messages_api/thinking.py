"""Fits `thinking` and `output_config.effort` to one target.

Anthropic gets its own fields. Other targets get their own field `thinking`, a reasoning effort or neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.anthropic.thinking import effort_for
from providers.base import Adjustment, Body, Refusal, Target

_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_BUDGET_FIELDS: Mapping[str, str | None] = {"cohere": "token_budget", "deepseek": None, "fireworks": "budget_tokens"}
"""Providers with their own parameter `thinking`, and the name of its field for the budget, or None if it has no such field.

The type of `thinking` is `enabled` or `disabled` at all of them.

As of 2026-11. Sources: cohere 7.3.1, api-docs.deepseek.com, fireworks-ai 1.2.30.
"""


_SUPPORT = "support of thinking"
"""Key in `Target.__dict__` of the result of `_support`."""


def _support(target: Target) -> tuple[bool, bool]:
    """Return whether a target gets the field `thinking`, and whether it gets the field `reasoning_effort`."""
    found: tuple[bool, bool] | None = target.__dict__.get(_SUPPORT)
    if found is None:
        known = target.kind.capabilities(target.model)
        thinking, effort = (known.get(name, {}).get("support", "no") for name in ("thinking", "reasoning_effort"))
        found = target.__dict__[_SUPPORT] = thinking != "no", effort != "no"
    return found


def fit_thinking(body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
    """Fit `thinking` and `reasoning_effort` of a chat body, and return the adjustments. In strict mode, raise Refusal for a loss."""
    thinking, effort = body.get("thinking"), body.get("reasoning_effort")
    if target.kind.type == "anthropic":
        if effort is not None:
            body.pop("reasoning_effort")
            body.set("output_config", {"effort": effort})
        return []
    if type(thinking) is not dict:
        return []
    takes_thinking, takes_effort = _support(target)
    if takes_thinking and target.kind.type not in _BUDGET_FIELDS:
        return []  # an unknown server gets the fields that the caller sent
    fit = _Fit(body, target, thinking, strict=strict)
    kind = thinking.get("type")
    if kind == "adaptive":
        fit.leave_out("the model decides" if effort is None else "the effort applies")
    elif kind == "disabled":
        fit.disable(takes_thinking=takes_thinking, takes_effort=takes_effort)
    elif kind == "enabled" and effort is not None:
        fit.leave_out("the effort applies")
        fit.lose_budget("the effort applies")
    elif kind == "enabled" and takes_thinking:
        fit.enable()
    elif kind == "enabled" and takes_effort and type(thinking.get("budget_tokens")) is int:
        fit.budget_as_effort(thinking["budget_tokens"])
    return fit.adjustments


class _Fit:
    """One body whose `thinking` is fitted to a target that is not Anthropic."""

    def __init__(self, body: Body, target: Target, thinking: Mapping[str, Any], *, strict: bool) -> None:
        self._body = body
        self._target = target
        self._thinking = thinking
        self._strict = strict
        self.adjustments: list[Adjustment] = []

    def leave_out(self, why: str) -> None:
        """Leave out `thinking`, because the target behaves in the same way without it."""
        self._body.pop("thinking")
        self.adjustments.append(Adjustment("thinking", "drop", why=why))

    def disable(self, *, takes_thinking: bool, takes_effort: bool) -> None:
        """Turn thinking off: with the target's own field, else with the effort `none`. A target without these fields gets neither."""
        if self._body.get("reasoning_effort") is not None:
            self._lossy(Adjustment("reasoning_effort", "drop", why="'thinking' is disabled"))
            self._body.pop("reasoning_effort")
        if takes_thinking:
            self._body.set("thinking", {"type": "disabled"})
        elif takes_effort:
            self._body.pop("thinking")
            self._body.set("reasoning_effort", "none")
            self.adjustments.append(Adjustment("thinking", "reshape", "disabled", "reasoning_effort"))
        else:
            self.leave_out("equals the default")

    def enable(self) -> None:
        """Send the target's own field, with the budget if the target accepts a budget."""
        field, budget = _BUDGET_FIELDS[self._target.kind.type], self._thinking.get("budget_tokens")
        if field is None:
            self.lose_budget("the target accepts no thinking budget")
        fitted = {"type": "enabled"} | ({field: budget} if field is not None and budget is not None else {})
        self._body.set("thinking", fitted)
        if field not in (None, "budget_tokens"):
            self.adjustments.append(Adjustment("thinking", "reshape", to=f"thinking.{field}"))

    def lose_budget(self, why: str) -> None:
        """If the request has a thinking budget, report that it is left out."""
        if self._thinking.get("budget_tokens") is not None:
            self._lossy(Adjustment("thinking.budget_tokens", "drop", why=why))

    def budget_as_effort(self, budget: int) -> None:
        """Send the effort that is nearest to a thinking budget."""
        effort = effort_for(budget, _EFFORTS)
        self._lossy(Adjustment("thinking", "downgrade", budget, effort, "the target accepts efforts, not budgets"))
        self._body.pop("thinking")
        self._body.set("reasoning_effort", effort)

    def _lossy(self, adjustment: Adjustment) -> None:
        if self._strict:
            param = adjustment.param
            message = f"'{param}' cannot be sent to {self._target.name}: {adjustment.why}."
            raise Refusal(message, param, "unsupported_parameter")
        self.adjustments.append(adjustment)
