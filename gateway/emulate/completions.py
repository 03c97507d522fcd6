"""Completions at providers that have only chat: the prompt becomes a user message.

A chat model answers a prompt instead of continuing it, so the conversion is lossy, and strict mode rejects the request. Parameters that
a chat cannot express at all are refused, so that the call can go to the next target.
"""

from __future__ import annotations

from providers.base import Adjustment, Body, Refusal, Target
from providers.rules.completions import DEFAULT_MAX_TOKENS, LEGACY


def to_chat(body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
    """Convert a completion to a chat in place, and return the adjustments.

    Raise Refusal in strict mode, and for a parameter that a chat cannot express.
    """
    prompt = body.pop("prompt")
    if type(prompt) is list and len(prompt) == 1 and type(prompt[0]) is str:
        prompt = prompt[0]
    if type(prompt) is not str or not prompt:
        raise _refusal("prompt", target, "it must be one text", "unsupported_content")
    if strict:
        raise _refusal("prompt", target, "a chat model answers a prompt instead of continuing it", "unsupported_operation")
    for name, plain in LEGACY.items():
        value = body.pop(name)
        if value is not None and value != plain:
            raise _refusal(name, target, "a chat has no such parameter", "unsupported_parameter")
    why = "sent as a user message in a chat: the model answers the prompt instead of continuing it"
    if body.get("max_tokens") == 0:
        raise _refusal("max_tokens", target, "a chat generates at least one token", "invalid_value")
    adjustments = [Adjustment("prompt", "downgrade", to="messages", why=why)]
    body.set("messages", [{"role": "user", "content": prompt}])
    listed = body.pop("logprobs")
    if listed is not None:
        body.set("logprobs", True)
        if listed:
            body.set("top_logprobs", listed)
        adjustments.append(Adjustment("logprobs", "reshape", from_=listed, why="sent as logprobs and top_logprobs of a chat"))
    if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        body.set("max_tokens", DEFAULT_MAX_TOKENS)
        adjustments.append(Adjustment("max_tokens", "set_default", to=DEFAULT_MAX_TOKENS, why="the default of completions"))
    return adjustments


def _refusal(param: str, target: Target, why: str, code: str) -> Refusal:
    return Refusal(f"'{param}' cannot be sent to {target.name}, which has no completions: {why}.", param, code)
