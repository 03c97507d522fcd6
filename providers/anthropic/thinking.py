"""Rules for thinking and effort, and for the parameters that exclude them, by model."""

from __future__ import annotations

from typing import Any

from providers.anthropic.models import UNKNOWN, Model
from providers.rules.model_tables import ORDER, nearest_effort
from providers.rules.rule import Rule, Work
from providers.rules.values import Default, is_number

MIN_BUDGET = 1024
MIN_ANSWER = 1024
"""Minimum number of output tokens that the gateway's default cap leaves in addition to a thinking budget."""
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
"""Thinking budgets for efforts, for models that have budgets only. The largest one fits into the 32,000 output tokens of opus-4-1."""
_BEGINNINGS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
OFF = {"type": "disabled"}
ADAPTIVE = {"type": "adaptive"}


def effort_for(budget: int, efforts: tuple[str, ...]) -> str:
    """Return the model's effort that corresponds to a thinking budget."""
    word = next((effort for effort in ("low", "medium", "high", "xhigh") if budget <= BUDGETS[effort]), "max")
    return nearest_effort(word, efforts)


def is_prefilled(messages: Any) -> bool:
    """Return whether a conversation ends with the beginning of an answer.

    A turn that contains blocks of the server's own tools is not such a beginning, because every model continues such a turn after
    `pause_turn`.
    """
    if not messages or messages[-1].get("role") != "assistant":
        return False
    content = messages[-1].get("content")
    return type(content) is not list or all(type(block) is dict and block.get("type") in _BEGINNINGS for block in content)


class Thinking(Rule, frozen=True):
    """Converts reasoning parameters and `thinking` to `thinking` and `output_config.effort`."""

    param: str = "thinking"
    model: Model = UNKNOWN

    @property
    def params(self) -> tuple[str, ...]:
        return ("thinking", "reasoning_effort", "reasoning_budget", "disable_reasoning", "output_config")

    def apply(self, work: Work) -> None:
        """Convert the caller's parameters, then adjust them to the model and to the other parameters."""
        names = [name for name in self.params if work.body.get(name) is not None]
        source = next((name for name in ("thinking", "reasoning_budget", "reasoning_effort") if name in names), "thinking")
        self._disable(work)
        self._budget(work)
        self._effort(work)
        self._native_effort(work)
        if type(work.body.get("thinking")) is dict:
            self._shape(work, source)
            self._pairs(work, source)

    def _disable(self, work: Work) -> None:
        if "disable_reasoning" not in work.body:
            return
        if work.body.pop("disable_reasoning") is not True:
            work.report("disable_reasoning", "drop", why="equals the default")
        elif work.body.get("thinking") not in (None, OFF):
            work.report_lossy("disable_reasoning", "drop", "'thinking' is also set", code="conflicting_parameters")
        else:
            work.body.set("thinking", OFF)
            work.report("disable_reasoning", "reshape", to="thinking.type")

    def _budget(self, work: Work) -> None:
        if "reasoning_budget" not in work.body:
            return
        budget = work.body.pop("reasoning_budget")
        if budget is None:
            return
        if type(budget) is not int:
            raise work.refuse("reasoning_budget", "it must be an integer", "invalid_type")
        if work.body.get("thinking") is not None:
            work.report_lossy("reasoning_budget", "drop", "'thinking' is also set", code="conflicting_parameters")
            return
        work.body.set("thinking", {"type": "enabled", "budget_tokens": budget})
        if self.model.thinking in ("budget", "both", "any"):
            work.report("reasoning_budget", "reshape", to="thinking.budget_tokens")

    def _effort(self, work: Work) -> None:
        if "reasoning_effort" not in work.body:
            return
        effort, thinking = work.body.pop("reasoning_effort"), work.body.get("thinking")
        if effort is None:
            return
        if effort not in ORDER:
            work.report_lossy("reasoning_effort", "drop", f"must be one of {', '.join(ORDER)}")
        elif effort == "none" and self.model.can_stop_thinking:
            self._stop_thinking(work, thinking)
        elif self.model.efforts:
            self._set_effort(work, "reasoning_effort", effort)
            if thinking is None and self.model.thinking in ("both", "adaptive"):
                work.body.set("thinking", ADAPTIVE)
            work.report("reasoning_effort", "reshape", to="output_config.effort")
        elif self.model.thinking == "none":
            work.report_lossy("reasoning_effort", "drop", "this model does not reason", code="unsupported_parameter")
        elif thinking is not None:
            work.report_lossy("reasoning_effort", "drop", "'thinking' is also set", code="conflicting_parameters")
        else:
            self._effort_as_budget(work, "reasoning_effort", effort)

    def _stop_thinking(self, work: Work, thinking: Any) -> None:
        if self.model.thinking == "none":
            work.report("reasoning_effort", "drop", why="equals the default")
        elif thinking not in (None, OFF):
            work.report_lossy("reasoning_effort", "drop", "'thinking' is also set", code="conflicting_parameters")
        else:
            work.body.set("thinking", OFF)
            work.report("reasoning_effort", "reshape", to="thinking.type")

    def _set_effort(self, work: Work, param: str, effort: str) -> None:
        """Send the nearest effort that the model supports."""
        near = effort if effort in self.model.efforts else nearest_effort(effort, self.model.efforts)
        if near != effort:
            why = f"must be one of {', '.join(self.model.efforts)}"
            work.report_lossy(param, "clamp", why, from_=effort, to=near)
        work.body.set("output_config", {**(work.body.get("output_config") or {}), "effort": near})

    def _effort_as_budget(self, work: Work, param: str, effort: str) -> None:
        """Send an effort as a budget: at most half of the output cap, but at least MIN_BUDGET. Drop it if the cap is not above that."""
        budget, cap = BUDGETS[effort], work.body.get("max_tokens")
        if is_number(cap):
            budget = max(MIN_BUDGET, min(budget, cap // 2))
            if budget >= cap:
                work.report_lossy(param, "drop", f"thinking needs an output cap above {MIN_BUDGET}", code="unsupported_combination")
                return
        work.body.set("thinking", {"type": "enabled", "budget_tokens": budget})
        why = f"{budget} tokens: this model has budgets, not efforts"
        work.report(param, "reshape", from_=effort, to="thinking.budget_tokens", why=why)

    def _native_effort(self, work: Work) -> None:
        """Adjust an effort in `output_config` to the model."""
        config = work.body.get("output_config")
        effort = config.get("effort") if type(config) is dict else None
        if effort is None or effort in self.model.efforts or effort not in ORDER:
            return
        if self.model.efforts:
            self._set_effort(work, "output_config.effort", effort)
            return
        work.report_lossy("output_config.effort", "drop", "this model has no efforts", code="unsupported_parameter")
        left = {key: value for key, value in config.items() if key != "effort"}
        if left:
            work.body.set("output_config", left)
        else:
            work.body.pop("output_config")

    def _shape(self, work: Work, source: str) -> None:
        """Send the form of thinking that the model accepts, with a valid budget."""
        thinking, model = work.body.get("thinking"), self.model
        kind, budget = thinking.get("type"), thinking.get("budget_tokens")
        if kind == "disabled":
            if model.thinking == "none":
                work.body.pop("thinking")
                work.report("thinking", "drop", why="equals the default")
            elif not model.can_stop_thinking:
                work.report_lossy(source, "drop", "this model always thinks", code="unsupported_parameter")
                work.body.pop("thinking")
        elif model.thinking == "none":
            work.report_lossy(source, "drop", "this model does not think", code="unsupported_parameter")
            work.body.pop("thinking")
        elif kind == "enabled" and model.thinking == "adaptive":
            effort = effort_for(budget if type(budget) is int else BUDGETS["high"], model.efforts)
            why = "this model requires adaptive thinking"
            work.report_lossy(source, "downgrade", why, from_=budget, to=f"adaptive, effort {effort}", code="unsupported_parameter")
            work.body.set("thinking", {**{key: thinking[key] for key in thinking if key != "budget_tokens"}, "type": "adaptive"})
            config = work.body.get("output_config") or {}
            work.body.set("output_config", {"effort": effort, **config})
        elif kind == "adaptive" and model.thinking == "budget":
            why = "this model requires a thinking budget"
            work.report_lossy(source, "downgrade", why, from_="adaptive", to="enabled", code="unsupported_parameter")
            work.body.pop("thinking")
            self._effort_as_budget(work, source, "medium")
        elif kind == "enabled" and type(budget) is int:
            self._check_budget(work, thinking, budget, source)

    def _check_budget(self, work: Work, thinking: dict[str, Any], budget: int, source: str) -> None:
        if budget < MIN_BUDGET:
            work.report_lossy(source, "clamp", f"must be at least {MIN_BUDGET}", from_=budget, to=MIN_BUDGET)
            budget = MIN_BUDGET
            work.body.set("thinking", {**thinking, "budget_tokens": budget})
        cap = work.body.get("max_tokens")
        if is_number(cap) and budget >= cap:
            raise work.refuse(source, "the thinking budget must be below 'max_tokens'")

    def _pairs(self, work: Work, source: str) -> None:
        """Drop thinking, or drop or downgrade the parameters that exclude it."""
        body = work.body
        if (body.get("thinking") or OFF).get("type") not in ("enabled", "adaptive"):
            return
        choice, messages = body.get("tool_choice"), body.get("messages")
        if type(choice) is dict and choice.get("type") in ("any", "tool"):
            if self.model.can_stop_thinking:
                self._drop_thinking(work, source, "a forced tool choice excludes thinking")
                return
            why = "this model always thinks, which excludes a forced tool choice"
            work.report_lossy("tool_choice", "downgrade", why, to="auto", code="unsupported_combination")
            body.set("tool_choice", {**{key: choice[key] for key in choice if key != "name"}, "type": "auto"})
        if self.model.prefill and is_prefilled(messages):
            self._drop_thinking(work, source, "a final assistant message excludes thinking")
            return
        top_p = body.get("top_p")
        fits = {"temperature": body.get("temperature") == 1, "top_p": is_number(top_p) and top_p >= 0.95, "top_k": False}
        for name, is_valid in fits.items():
            if name in body and not is_valid:
                work.drop(name, "not supported while the model thinks", "unsupported_combination")

    def _drop_thinking(self, work: Work, source: str, why: str) -> None:
        work.report_lossy(source, "drop", why, code="unsupported_combination")
        if self.model.thinking == "budget":
            work.body.pop("thinking")
        else:
            work.body.set("thinking", OFF)

    def describe(self) -> dict[str, dict[str, Any]]:
        effort: dict[str, Any] = {"support": "adjusted", "action": "reshape", "to": "output_config.effort"}
        effort["values"] = list(self.model.efforts)
        if not self.model.efforts:
            effort = {"support": "no", "why": "this model does not reason"}
            if self.model.thinking == "budget":
                effort = {"support": "adjusted", "action": "reshape", "to": "thinking.budget_tokens"}
        if self.model.thinking == "none":
            none = {"support": "no", "why": "this model does not think"}
            return {"thinking": none, "reasoning_budget": none, "reasoning_effort": effort}
        to = "output_config.effort" if self.model.thinking == "adaptive" else "thinking.budget_tokens"
        return {
            "thinking": {"support": "yes"},
            "reasoning_effort": effort,
            "reasoning_budget": {"support": "adjusted", "action": "reshape", "to": to, "min": MIN_BUDGET},
            "disable_reasoning": {"support": "adjusted", "action": "reshape", "to": "thinking.type"},
        }


class DefaultCap(Default, frozen=True):
    """The default output cap. It leaves room for the answer in addition to a thinking budget."""

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Set the default, plus the thinking budget if the default would leave too little room for the answer."""
        if work.body.get(self.param) is not None:
            return
        value = work.settings.get(self.setting, self.value)
        thinking = work.body.get("thinking")
        budget = thinking.get("budget_tokens") if type(thinking) is dict else None
        if type(budget) is int and budget + MIN_ANSWER > value:
            value += budget
        work.body.set(self.param, value)
        work.report(self.param, "set_default", to=value, why=self.why)


class NoPrefill(Rule, frozen=True):
    """Refuses a final assistant message, because models since version 4.6 do not continue it."""

    param: str = "messages"

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Refuse the message in strict and in lenient mode, because the answer would not continue the message."""
        if is_prefilled(work.body.get("messages")):
            raise work.refuse("messages", "this model does not continue a final assistant message", "unsupported_content")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}
