"""Limits that hold exactly in real tokens: what a call reserves of them is a bound and not an estimate.

The prompt is bounded by its bytes, as no tokenizer that works on bytes makes more tokens than there are bytes, and by what chat templates
put around messages and tools. The output is bounded by a cap that goes upstream with the call. What has no such bound is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import refuse
from gateway.tokens.estimate import choice_count
from providers.base import Adjustment, Body

if TYPE_CHECKING:
    from gateway.call import Call

AROUND = 256
"""Tokens of a template itself: a default system message, dates, the opening of the answer."""
PER_MESSAGE = 32
AROUND_TOOLS = 1024
"""Tokens of the instructions that providers write before tools; about 530 are the most that a vendor documents (Anthropic)."""
PER_TOOL = 64
JSON_MODE = 512
"""Tokens of the instructions that stand for a response format where the provider has none."""


def max_prompt_tokens(call: Call) -> int:
    """Tokens that the prompt has at most; 400 when it has parts whose tokens nobody can bound."""
    body = call.body
    assert body is not None
    messages, tools = body.get("messages") or (), body.get("tools") or ()
    for at, message in enumerate(messages):
        _check(message, at)
    bound = call.body_bytes + AROUND + PER_MESSAGE * len(messages)
    if tools:
        bound += AROUND_TOOLS + PER_TOOL * len(tools)
    if "response_format" in body:
        bound += JSON_MODE
    return bound * choice_count(body)  # asked for one by one, each of them is billed its prompt


def _check(message: Any, at: int) -> None:
    content = message.get("content") if isinstance(message, dict) else None
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") not in ("text", "refusal"):
            raise refuse(
                f"messages[{at}].content",
                f"a strict token limit holds for this call, and the tokens of a part of type '{str(part.get('type'))[:40]}' have no bound.",
                "unsupported_content",
            )


def set_output_cap(body: Body, cap: int) -> Adjustment:
    """Give a body without a cap the one that was reserved."""
    body.set("max_tokens", cap)
    return Adjustment("max_tokens", "set_default", to=cap, why="a strict limit holds: this much output was reserved")
