"""`ToolPass`: fields of tools, names of functions, and schemas, by the vendor's row in `providers.message_tables`."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from providers.rules.custom_tools import tools_as_functions
from providers.rules.message_fields import NEUTRAL, NO_FIELD
from providers.rules.message_row import MessageRow
from providers.rules.rule import Rule, Work
from providers.rules.schema_unions import NOT_AT_THE_TOP, merged_schema
from providers.rules.schemas import check_arguments

_FUNCTION = ("name", "description", "parameters")


class ToolPass(Rule, frozen=True):
    """Adapts tools, legacy functions and their schemas in one pass."""

    param: str = "tools"
    row: MessageRow = MessageRow(source="")
    repeats: ClassVar[bool] = True

    @property
    def params(self) -> tuple[str, ...]:
        return ("tools", "functions")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Adapt each tool. Lists that need no change keep their bytes."""
        for param in self.params:
            tools = work.body.get(param)
            if type(tools) is list and tools and self.row.has_tools:
                changed = tools
                if self.row.unknown != "pass" and param == "tools" and any(tool.get("type") != "function" for tool in tools):
                    changed = [self._with_type(work, index, tool) for index, tool in enumerate(tools)]
                    changed = changed if self.row.custom_tools else tools_as_functions(work, changed)
                changed = [self._tool(work, param, index, tool) for index, tool in enumerate(changed)]
                changed = self._once(work, param, changed) if self.row.unique_tools else changed
                if changed != tools:
                    work.body.set(param, changed)

    def _once(self, work: Work, param: str, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop a tool that repeats an earlier one. Refuse another tool with the same name."""
        first: dict[Any, int] = {}
        kept = []
        for index, tool in enumerate(tools):
            function = tool if param == "functions" else tool.get("function")
            name = function.get("name") if type(function) is dict else None
            at = first.setdefault(name, index) if type(name) is str else index
            if at == index:
                kept.append(tool)
            elif tool == tools[at]:
                work.report(f"{param}[{index}]", "drop", why=f"it repeats {param}[{at}], and the provider accepts a name only once")
            else:
                where = f"{param}[{index}]" if param == "functions" else f"{param}[{index}].function"
                raise work.refuse(f"{where}.name", f"{param}[{at}] has the same name, and each name may be used only once")
        return kept

    def _with_type(self, work: Work, index: int, tool: dict[str, Any]) -> dict[str, Any]:
        if tool.get("type") is not None:
            return tool
        kind = "custom" if "custom" in tool and "function" not in tool else "function"
        work.report(f"tools[{index}].type", "set_default", to=kind)
        return {**tool, "type": kind}

    def _tool(self, work: Work, param: str, index: int, tool: dict[str, Any]) -> dict[str, Any]:
        where = f"{param}[{index}]"
        if param == "functions":
            return self._function(work, where, tool)
        function = tool.get("function")
        if tool.get("type", "function") != "function" or type(function) is not dict:
            return tool
        result = dict(tool)
        mark = function.get("cache_control")
        if mark is not None and "cache_control" in self.row.tool:
            function = {name: value for name, value in function.items() if name != "cache_control"}
            result.setdefault("cache_control", mark)
            work.report(f"{where}.function.cache_control", "reshape", to=f"{where}.cache_control")
        result["function"] = self._function(work, f"{where}.function", function)
        self._drop_fields(work, where, result, ("type", "function", *self.row.tool))
        return tool if result == tool else result

    def _function(self, work: Work, where: str, function: dict[str, Any]) -> dict[str, Any]:
        name, row = function.get("name"), self.row
        if row.function_name is not None and type(name) is str and re.fullmatch(row.function_name, name) is None:
            raise work.refuse(f"{where}.name", f"the name of a function must match {row.function_name}")
        result = dict(function)
        self._drop_fields(work, where, result, (*_FUNCTION, *row.function))
        if function.get("strict") is True and not row.enforces_strict and row.unknown != "pass":
            check_arguments(work, function)
            if "strict" in result:
                why = "the upstream does not document that it enforces schemas; the gateway checks the arguments"
                work.report(f"{where}.strict", "enforce_locally", why=why)
        schema = function.get("parameters")
        if type(schema) is dict and row.unknown != "pass":
            result["parameters"] = self._schema(work, f"{where}.parameters", schema)
        elif schema is None and "parameters" in function and row.unknown != "pass":
            del result["parameters"]
            work.report(f"{where}.parameters", "drop", why=NEUTRAL)
        if row.needs_parameters and "parameters" not in result:
            result["parameters"] = {"type": "object", "properties": {}}
            work.report(f"{where}.parameters", "set_default", why="the provider requires `parameters`, even for a function without any")
        return function if result == function else result

    def _drop_fields(self, work: Work, where: str, fields: dict[str, Any], allowed: tuple[str, ...]) -> None:
        if self.row.unknown == "pass":
            return
        for name in [name for name, value in fields.items() if name not in allowed or (value is None and name != "parameters")]:
            if self.row.unknown == "new" and name != "cache_control":
                continue
            value = fields.pop(name)
            if value in (None, "", [], {}, False):
                work.report(f"{where}.{name}", "drop", why=NEUTRAL)
            else:
                work.report_lossy(f"{where}.{name}", "drop", NO_FIELD, code="unsupported_parameter")

    def _schema(self, work: Work, where: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema with the type `object` if it states none, and without keywords that the vendor rejects at the top level."""
        for name in [name for name in self.row.schema_drops if name in schema]:
            schema = {key: value for key, value in schema.items() if key != name}
            work.report(f"{where}.{name}", "drop", why=NEUTRAL)
        if self.row.object_schemas and any(name in schema for name in NOT_AT_THE_TOP):
            merged = merged_schema(schema)
            if merged is None:
                why = f"at its top level, the schema of a function must be an object without {', '.join(NOT_AT_THE_TOP)}"
                raise work.refuse(where, why, "unsupported_content")
            why = "anyOf, oneOf and allOf are not supported at the top level; their objects are merged"
            work.report_lossy(where, "downgrade", why, code="unsupported_content")
            return merged
        if "type" not in schema and "$ref" not in schema and not any(name in schema for name in NOT_AT_THE_TOP):
            why = "the schema of the parameters has no type, and the provider requires one"
            work.report(f"{where}.type", "set_default", to="object", why=why)
            return {"type": "object", **({} if "properties" in schema else {"properties": {}}), **schema}
        if self.row.object_schemas and schema.get("type", "object") != "object":
            raise work.refuse(where, "the schema of a function must have the type object at its top level", "unsupported_content")
        return schema

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class VisibleStops(Rule, frozen=True):
    """Removes stop strings without a visible character, which the vendor refuses. The gateway enforces them."""

    param: str = "stop"

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Send the other stop strings. Empty strings are left to the rule for all providers."""
        value = work.body.get(self.param)
        stops = [value] if type(value) is str else value
        if type(stops) is not list:
            return
        left = [stop for stop in stops if stop.strip() or not stop]
        if len(left) == len(stops):
            return
        why = "the upstream rejects blank stop strings; the gateway enforces them"
        work.report(self.param, "enforce_locally", from_=len(stops), to=len(left), why=why)
        if left:
            work.body.set(self.param, left)
        else:
            work.body.pop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}
