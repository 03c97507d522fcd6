"""The caller's names for the parameters of a chat completion, for receipts and errors."""

from __future__ import annotations

import re
from typing import Any

from gateway.dialects.cohere_api.request import CALLERS_NAMES

_MESSAGE = re.compile(r"(messages\[(\d+)\])\.(reasoning_content|reasoning|content\[(\d+)\])(.*)", re.DOTALL)


class Names:
    """The names of one request. The messages of the request have their reasoning in `tool_plan` or in parts of `content`."""

    def __init__(self, messages: Any = None) -> None:
        self._messages: list[Any] = messages if type(messages) is list else []

    def of(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        match = _MESSAGE.fullmatch(name)
        if match is None or int(match[2]) >= len(self._messages):
            return CALLERS_NAMES.get(name, name)
        message, path, part, rest = self._messages[int(match[2])], match[1], match[4], match[5]
        thoughts, others = _parts(message)
        if part is None:
            if message.get("tool_plan"):
                return f"{path}.tool_plan"
            return f"{path}.content[{thoughts[0]}]" if len(thoughts) == 1 else f"{path}.content"
        return f"{path}.content[{others[int(part)]}]{rest}" if int(part) < len(others) else name


def _parts(message: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the indexes of the parts with thoughts, and those of the other parts, which are sent as content."""
    content = message.get("content")
    parts = content if type(content) is list else []
    if message.get("role") != "assistant":
        return [], list(range(len(parts)))
    thoughts = [number for number, part in enumerate(parts) if type(part) is dict and part.get("type") == "thinking"]
    return thoughts, [number for number in range(len(parts)) if number not in thoughts]
