"""`StreamChoice`: the state of one choice of a stream, and the repairs of its deltas that depend on it."""

from __future__ import annotations

from typing import Any

from providers.base import Adjustment
from providers.tool_calls import CallStream, adopt_function_call, calls_of

SURPLUS = Adjustment("n", "warn", why="the upstream sent more choices than were requested; they are left out")


class StreamChoice:
    """The state of one choice of a stream."""

    __slots__ = ("_is_adopted", "calls", "finished", "has_delta", "has_function_call", "has_role")

    def __init__(self) -> None:
        self.calls = CallStream()
        self.finished = False
        self.has_delta = False
        self.has_function_call = False
        """Whether a legacy function call has begun."""
        self.has_role = False
        self._is_adopted = False
        """Whether the calls are those of a legacy `function_call`."""

    def goes_on(self, delta: Any) -> bool:
        """Return whether a delta continues the choice: it is not the first, has no call, and does not introduce the role."""
        if not self.has_delta or type(delta) is not dict or "tool_calls" in delta or "function_call" in delta:
            return False
        return self.has_role or "role" not in delta

    def repair_role(self, delta: dict[str, Any]) -> bool:
        """Give the first delta the role `assistant`, and remove the role from the others. Return whether something changed.

        The `openai` package for Node refuses a choice without a role, and the one for Python joins roles like other texts.
        """
        if self.has_role:
            return delta.pop("role", None) is not None
        self.has_role = True
        changed = delta.get("role") != "assistant"
        delta["role"] = "assistant"
        return changed

    def adopt_function_call(self, delta: dict[str, Any]) -> bool:
        """Turn the legacy `function_call` of a delta into a tool call, or remove it if tool calls have begun. Return whether it had one."""
        has_calls = bool(delta.get("tool_calls")) or (self.calls.count > 0 and not self._is_adopted)
        self._is_adopted = not has_calls
        return adopt_function_call(delta, has_calls=has_calls)

    def repair_calls(self, delta: dict[str, Any]) -> bool:
        """Convert the tool calls of a delta to OpenAI's form. Return whether something changed."""
        source = delta["tool_calls"]
        if source is None or source == []:
            return False
        calls = self.calls.feed(calls_of(source))
        if calls == source:
            return False
        if calls:
            delta["tool_calls"] = calls
        else:
            del delta["tool_calls"]
        return True
