"""OpenAI's legacy `functions` and `function_call`, and tool choices without tools."""

from __future__ import annotations

from typing import Any

from providers.rules.rule import MAX_UNAFFECTED, Rule, Work

LEGACY_CALLS = "legacy calls"
"""Key of `Options.memo`: the caller sent `functions`, so the answer must have `function_call` instead of `tool_calls`."""
ONLY_FUNCTIONS = "only functions"
"""Key of `Options.memo`: the caller sent `functions` and no `tools`, so an answer may have `function_call`."""
NO_TOOLS = "there are no tools"
_listed: set[tuple[object, ...]] = set()
"""Names of choices, and keys of the choices and of large lists that have the chosen tools: callers send the same tools with every call."""


class LegacyFunctions(Rule, frozen=True):
    """Converts legacy functions before the rules for `tools` and `tool_choice` apply."""

    one_call: bool = False
    """Whether the upstream can be asked for one call at a time: a legacy answer can hold only one call."""

    @property
    def may_add(self) -> tuple[str, ...]:
        return ("tools", "tool_choice", *(("parallel_tool_calls",) if self.one_call else ()))

    @property
    def params(self) -> tuple[str, ...]:
        return ("functions", "function_call")

    def apply(self, work: Work) -> None:
        """Convert both parameters. `ChoiceWithoutTools` drops a choice without functions."""
        body = work.body
        functions = body.get("functions")
        if not functions:
            return
        body.pop("functions")
        body.set("tools", [_tool(function) for function in functions])
        work.report("functions", "reshape", to="tools")
        work.options.memo[LEGACY_CALLS] = True
        choice = body.pop("function_call")
        if choice is not None:
            body.set("tool_choice", _choice(choice))
            work.report("function_call", "reshape", to="tool_choice")
        if self.one_call and body.get("parallel_tool_calls") is None:
            body.set("parallel_tool_calls", False)
            work.report("parallel_tool_calls", "set_default", to=False, why="'function_call' holds one call")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {
            "functions": {"support": "adjusted", "action": "reshape", "to": "tools"},
            "function_call": {"support": "adjusted", "action": "reshape", "to": "tool_choice"},
        }


class _Always(Rule, frozen=True):
    """A rule for all models, in addition to a model's own rules."""

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class LegacyAnswers(_Always, frozen=True):
    """Legacy functions that the upstream accepts, although it may answer with `tool_calls`."""

    param: str = "functions"

    def apply(self, work: Work) -> None:
        if work.body.get(self.param):
            work.options.memo[LEGACY_CALLS] = True


class FunctionsBesideTools(_Always, frozen=True):
    """Merges legacy functions into `tools` if a request has both."""

    param: str = "functions"

    def apply(self, work: Work) -> None:
        """Add the functions to the tools. Refuse two different functions with the same name."""
        body = work.body
        tools, functions = body.get("tools"), body.get("functions")
        if not tools or not functions:
            if functions:
                work.options.memo[ONLY_FUNCTIONS] = True
            return
        known = {tool["function"].get("name"): tool["function"] for tool in tools if type(tool.get("function")) is dict}
        added = []
        for index, function in enumerate(functions):
            same = known.get(function.get("name"))
            if same is None:
                added.append(_tool(function))
            elif same != function:
                why = "'tools' has another function with this name"
                raise work.refuse(f"functions[{index}].name", why, "conflicting_parameters")
        body.pop("functions")
        body.set("tools", [*tools, *added])
        work.report("functions", "reshape", to="tools", why="the functions are added to the tools")
        choice = body.pop("function_call")
        if choice is None:
            return
        if body.get("tool_choice") in (None, _choice(choice)):
            body.set("tool_choice", _choice(choice))
            work.report("function_call", "reshape", to="tool_choice")
        else:
            work.report_lossy("function_call", "drop", "'tool_choice' is also set", code="conflicting_parameters")


class ChoiceWithoutTools(_Always, frozen=True):
    """Drops a tool choice without tools, which vendors reject. Strict mode refuses a choice that forces a call.

    Refuses the choice of a tool that the request does not have: OpenAI, Anthropic and vLLM answer 400, SGLang 500
    (sglang#28862), and other servers call another tool.
    """

    param: str = "tool_choice"

    @property
    def params(self) -> tuple[str, ...]:
        return ("tool_choice", "function_call")

    def apply(self, work: Work) -> None:
        for name, tools in (("tool_choice", "tools"), ("function_call", "functions")):
            if name not in work.body:
                continue
            if work.body.is_true(tools):
                _check_choice(work, name, tools)
            elif work.body.get(name) in (None, "auto", "none"):
                work.report(name, "drop", why=NO_TOOLS)
                work.body.pop(name)
            else:
                work.report_lossy(name, "drop", f"{NO_TOOLS} in '{tools}'", code="unsupported_combination")
                work.body.pop(name)


def _check_choice(work: Work, param: str, tools: str) -> None:
    """Refuse a choice of functions or custom tools of which one is not listed."""
    choice = work.body.get(param)
    if type(choice) is not dict:
        return
    key = work.body.key_of((param, tools))
    if key is not None and (param, *key) in _listed:
        return
    allowed = choice.get("allowed_tools")
    chosen = allowed.get("tools") if type(allowed) is dict else [{"function": choice} if param == "function_call" else choice]
    if type(chosen) is not list:
        return
    known = {_name(tool if tools == "functions" else tool.get("function") or tool.get("custom")) for tool in work.body.get(tools)}
    for name in (_name(each.get("function") or each.get("custom")) for each in chosen if type(each) is dict):
        if name is not None and name not in known:
            raise work.refuse(param, f"'{tools}' has no tool {name[:80]!r}")
    if key is not None:
        if len(_listed) >= MAX_UNAFFECTED:
            _listed.clear()
        _listed.add((param, *key))


def _name(tool: Any) -> str | None:
    """Return the name of a function or custom tool, or None if there is none."""
    name = tool.get("name") if type(tool) is dict else None
    return name if type(name) is str else None


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    return choice if type(choice) is str else {"type": "function", "function": choice}
