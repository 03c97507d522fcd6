"""Rules for values that mean "not given": null tools, an empty stop string, parallel_tool_calls without tools, schema true.

Some upstreams reject such a value, so it is left out for every provider. Nothing is lost, so strict mode allows it.
"""

from __future__ import annotations

from typing import Any

from providers.rules.legacy_functions import NO_TOOLS, ChoiceWithoutTools, FunctionsBesideTools
from providers.rules.rule import Rule, Work


class _NotGiven(Rule, frozen=True):
    """A rule for all models, in addition to a model's own rules."""

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class NullTools(_NotGiven, frozen=True):
    """Drops null values of the parameters for tools, and empty lists of tools, which OpenAI rejects."""

    param: str = "tools"

    @property
    def params(self) -> tuple[str, ...]:
        return ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")

    def apply(self, work: Work) -> None:
        """Leave out the fields that are null or empty."""
        for name in self.params:
            if name in work.body and not work.body.is_true(name) and work.body.get(name) in (None, []):
                work.body.pop(name)
                work.report(name, "drop", why="neutral value")


class ParallelWithoutTools(_NotGiven, frozen=True):
    """Drops `parallel_tool_calls` without tools, which OpenAI and others reject."""

    param: str = "parallel_tool_calls"
    counts_functions: bool = True
    """Whether legacy functions count as tools, because they become tools before the request is sent."""

    @property
    def replaces(self) -> tuple[str, ...]:
        """`functions` if functions do not count, so that a model's rule for `functions` replaces this rule; else the name of the class."""
        return (type(self).__name__,) if self.counts_functions else ("functions",)

    def apply(self, work: Work) -> None:
        """Leave out the parameter if there are no tools."""
        body = work.body
        if self.param in body and not body.is_true("tools") and not (self.counts_functions and body.is_true("functions")):
            body.pop(self.param)
            work.report(self.param, "drop", why=NO_TOOLS)


class EmptyStops(_NotGiven, frozen=True):
    """Drops empty stop strings. They match nothing, and OpenAI and others reject them."""

    param: str = "stop"

    def apply(self, work: Work) -> None:
        """Leave out the empty strings, and the parameter if no string is left."""
        value = work.body.get(self.param)
        stops = [value] if type(value) is str else value
        if type(stops) is not list or "" not in stops:
            return
        left = [stop for stop in stops if stop]
        if left:
            work.report(self.param, "reshape", from_=len(stops), to=len(left), why="an empty stop string matches nothing")
            work.body.set(self.param, left)
        else:
            work.report(self.param, "drop", why="neutral value")
            work.body.pop(self.param)


class TrueSchema(_NotGiven, frozen=True):
    """The schema `true`, which vendors reject although it means the same as an empty object."""

    param: str = "response_format"

    def apply(self, work: Work) -> None:
        value = work.body.get(self.param)
        wrapped = value.get("json_schema") if type(value) is dict else None
        if type(wrapped) is dict and wrapped.get("schema") is True:
            work.body.set(self.param, {**value, "json_schema": {**wrapped, "schema": {}}})
            work.report(f"{self.param}.json_schema.schema", "reshape", why="an empty object has the same meaning as true")


NOT_GIVEN: tuple[Rule, ...] = (
    NullTools(), FunctionsBesideTools(), ChoiceWithoutTools(), ParallelWithoutTools(), EmptyStops(), TrueSchema(),
)  # fmt: skip
"""Rules for every provider."""
