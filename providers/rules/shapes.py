"""Rules for structured parameters: stop strings, tools, response format, choices and seeds, usage in streams."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from providers.rules.rule import UNSUPPORTED, Rule, Work
from providers.rules.schema_descriptions import described_schema

MAX_FANOUT = 8
"""Default of the setting `max_fanout`: the maximum number of upstream requests for one call."""


class StopStrings(Rule, frozen=True):
    """Stop strings: at most `limit` (None: any number), always a list if `as_list`. The gateway enforces the other stop strings."""

    limit: int | None = None
    as_list: bool = False

    def apply(self, work: Work) -> None:
        """Turn a single string into a list. Keep the first `limit` strings of a list."""
        value = work.body.get(self.param)
        if type(value) is str and self.as_list:
            work.report(self.param, "reshape", why="the upstream accepts only a list")
            work.body.set(self.param, [value])
        elif type(value) is list and self.limit is not None and len(value) > self.limit:
            work.body.set(self.param, first_stops(work, value, self.limit))

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"} | ({"max_items": self.limit} if self.limit else {})}


def first_stops(work: Work, stops: list[str], limit: int) -> list[str]:
    """Return the stop strings to send. The gateway enforces the others, so nothing is lost, and strict mode allows it."""
    why = f"at most {limit} stop strings are supported"
    work.report("stop", "enforce_locally", from_=len(stops), to=limit, why=f"{why}; the gateway enforces the others")
    return stops[:limit]


class StopSequences(Rule, frozen=True):
    """Stop strings as the list `stop_sequences`, at most `limit`."""

    limit: int | None = None

    def apply(self, work: Work) -> None:
        if self.param not in work.body:
            return
        value = work.body.pop(self.param)
        if not value:
            work.report(self.param, "drop", why="neutral value")
            return
        stops = [value] if type(value) is str else value
        if self.limit is not None and len(stops) > self.limit:
            stops = first_stops(work, stops, self.limit)
        work.body.set("stop_sequences", stops)
        work.report(self.param, "rename", to="stop_sequences")

    def describe(self) -> dict[str, dict[str, Any]]:
        entry: dict[str, Any] = {"support": "adjusted", "action": "rename", "to": "stop_sequences"}
        return {self.param: entry | ({"max_items": self.limit} if self.limit else {})}


class IncludeStop(Rule, frozen=True):
    """Keeps the stop string in the text.

    Most upstreams remove the stop string, so `stop` is not sent, and the gateway ends the text itself.
    """

    param: str = "include_stop_str_in_output"

    def apply(self, work: Work) -> None:
        """Remove the parameter from the body, and also remove `stop` if the parameter is true.

        This rule must come before the rules for stop strings.
        """
        if work.body.pop(self.param) is not True or not work.body.get("stop"):
            work.report(self.param, "drop", why="neutral value")
            return
        work.body.pop("stop")
        work.report(self.param, "enforce_locally", why="the gateway ends the text after the stop string")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "enforce_locally"}}


class Tools(Rule, frozen=True):
    """Tools: at most `limit`, and only functions if `functions_only`. An empty list is dropped."""

    limit: int | None = None
    functions_only: bool = True
    repeats: ClassVar[bool] = True

    def apply(self, work: Work) -> None:
        """Refuse tools that cannot be sent. Tools are never dropped silently."""
        tools = work.body.get(self.param)
        if tools is None:
            return
        if not tools:
            work.report(self.param, "drop", why="the upstream rejects an empty list")
            work.body.pop(self.param)
            return
        if self.limit is not None and len(tools) > self.limit:
            raise work.refuse(self.param, f"at most {self.limit} tools are supported")
        for index, tool in enumerate(tools):
            if self.functions_only and tool.get("type", "function") != "function":
                raise work.refuse(f"{self.param}[{index}].type", "only functions are supported", "unsupported_parameter")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"} | ({"max_items": self.limit} if self.limit else {})}


class ToolChoice(Rule, frozen=True):
    """The values of tool_choice that the provider supports (`named`: a function). The parameter requires tools."""

    accepts: tuple[str, ...] = ("auto", "none", "required", "named")

    def apply(self, work: Work) -> None:
        """Drop an unsupported choice. Refuse a choice without tools, except `none`."""
        if self.param not in work.body:
            return
        value = work.body.get(self.param)
        if not work.body.is_true("tools"):
            if value is None or value == "none":
                work.body.pop(self.param)
                work.report(self.param, "drop", why="neutral value")
                return
            raise work.refuse(self.param, "it requires 'tools'")
        if value is None:
            return
        kind = value if type(value) is str else "named" if value.get("type") == "function" else str(value.get("type"))
        if kind in self.accepts:
            return
        if kind == "auto":
            work.report(self.param, "drop", why="auto is the default")
        else:
            work.report_lossy(self.param, "drop", UNSUPPORTED, code="unsupported_parameter")
        work.body.pop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "values": list(self.accepts)} if self.accepts else {"support": "no"}}


class ResponseFormat(Rule, frozen=True):
    """The response formats a provider accepts. json_schema falls back to json_object; other formats are dropped."""

    accepts: tuple[str, ...] = ("text", "json_object", "json_schema")
    warn_without_json: bool = False
    """Whether to warn if no message contains the word JSON: the answer may then be white space up to the token limit."""
    schema_only: bool = False
    """Whether `json_schema` may contain only `schema`."""

    def apply(self, work: Work) -> None:
        """Downgrade or drop an unsupported format."""
        value = work.body.get(self.param)
        kind = value.get("type") if type(value) is dict else None
        if kind is None:
            return
        if kind not in self.accepts:
            self._downgrade(work, kind)
        elif kind == "json_schema" and self.schema_only:
            self._trim(work, value)
        if self.warn_without_json and kind in ("json_object", "json_schema") and b"json" not in (work.body.raw("messages") or b"").lower():
            work.report(self.param, "warn", why="no message contains the word JSON; the answer may be white space up to the token limit")

    def _downgrade(self, work: Work, kind: str) -> None:
        if kind == "json_schema" and "json_object" in self.accepts:
            why = "the upstream does not enforce schemas"
            work.report_lossy(self.param, "downgrade", why, from_="json_schema", to="json_object", code="unsupported_parameter")
            work.body.set(self.param, {"type": "json_object"})
        elif kind == "text":
            work.report(self.param, "drop", why="the provider returns only text" if not self.accepts else "text is the default")
            work.body.pop(self.param)
        else:
            work.drop(self.param)

    def _trim(self, work: Work, value: dict[str, Any]) -> None:
        schema = value["json_schema"]
        if set(schema) - {"schema"} or set(value) - {"type", "json_schema"}:
            work.body.set(self.param, {"type": "json_schema", "json_schema": {"schema": described_schema(schema)}})
            work.report(self.param, "reshape", why="the upstream defines only 'schema'")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "values": list(self.accepts)} if self.accepts else {"support": "no"}}


class StreamUsage(Rule, frozen=True):
    """Usage in streams, which the upstream reports on request (`ask`, by stream_options), `always` or `never`."""

    how: Literal["ask", "always", "never"] = "ask"
    only_streams: bool = True
    """Whether the upstream rejects stream_options without a stream."""
    runs: ClassVar[Literal["present", "always", "stream"]] = "stream"

    def apply(self, work: Work) -> None:
        """Request usage on every stream that can report it. Drop the field if the upstream does not define it."""
        value = work.body.get(self.param)
        if self.how == "ask":
            self._ask(work, value)
            return
        if self.how == "always" and work.options.stream and not (value and value.get("include_usage")):
            work.report(self.param, "enforce_locally", why="the upstream always reports usage; it is hidden from this caller")
        if self.param in work.body:
            if self.how == "always":
                work.body.pop(self.param)
                work.report(self.param, "drop", why="the upstream always reports usage and has no such field")
            else:
                work.drop(self.param, "the provider never reports usage")

    def _ask(self, work: Work, value: Any) -> None:
        if not work.options.stream:
            if self.only_streams and self.param in work.body:
                work.drop(self.param, "only valid with stream: true", "invalid_value")
        elif value is None or value.get("include_usage") is not True:
            options = {**(value or {}), "include_usage": True}
            work.body.set(self.param, options)
            work.report(
                self.param,
                "set_default",
                to={"include_usage": True},
                why="the gateway counts tokens; usage is hidden from a caller that does not ask for it",
            )

    def describe(self) -> dict[str, dict[str, Any]]:
        support = {"ask": "yes", "always": "adjusted", "never": "no"}[self.how]
        return {self.param: {"support": support, "usage_in_streams": self.how != "never"}}


class Choices(Rule, frozen=True):
    """Handles `n` and `seed`.

    One request returns up to `max_choices` choices (None: one), and accepts a list of seeds if `seed_list` is set.
    """

    max_choices: int | None = None
    seed_list: bool = False
    has_seed: bool = True
    """Whether the provider accepts a seed."""
    accepts_one: bool = False
    """Whether the provider accepts `n: 1` but rejects a higher number."""
    best_effort_seed: bool = False
    """Whether the same seed may produce another text."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("n", "seed")

    def apply(self, work: Work) -> None:
        """Send n and seeds as they are, or have the gateway send one request for each choice."""
        n, seed = work.body.get("n"), work.body.get("seed")
        count = 1 if n is None else n
        if type(seed) is list:
            self._check_seeds(work, seed, count)
        several = count > 1 and (self.max_choices is None or (type(seed) is list and not self.seed_list))
        if several:
            self._fan_out(work, count)
        elif self.max_choices is not None and count > self.max_choices:
            raise work.refuse("n", f"at most {self.max_choices} choices are supported")
        elif "n" in work.body and self.max_choices is None and not self.accepts_one:
            work.body.pop("n")
            work.report("n", "drop", why="equals the default")
        if "seed" in work.body and not self.has_seed:
            work.drop("seed")
        elif type(seed) is list and not self.seed_list and not several:
            work.body.set("seed", seed[0])
            work.report("seed", "reshape", why="the upstream accepts one integer")
        if self.best_effort_seed and seed is not None:
            work.report("seed", "warn", why="best effort: the same seed may produce another text")

    def _check_seeds(self, work: Work, seed: list[int], count: int) -> None:
        if len(seed) != count:
            raise work.refuse("seed", f"a list of seeds must have one seed for each of the {count} choices")

    def _fan_out(self, work: Work, count: int) -> None:
        limit = int(work.settings.get("max_fanout", MAX_FANOUT))
        if count > limit:
            raise work.refuse("n", f"the provider returns one choice per request, and one call is limited to {limit} requests")
        work.body.pop("n")
        why = "one upstream request per choice; the prompt is billed for each, and usage is added up"
        work.report("n", "fan_out", from_=count, why=why)

    def describe(self) -> dict[str, dict[str, Any]]:
        n = (
            {"support": "yes", "max": self.max_choices}
            if self.max_choices
            else {"support": "adjusted", "action": "fan_out", "max": MAX_FANOUT}
        )
        seed = {"support": "yes", "list": self.seed_list or "fan_out"} | ({"best_effort": True} if self.best_effort_seed else {})
        return {"n": n, "seed": seed if self.has_seed else {"support": "no"}}
