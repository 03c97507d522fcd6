"""Continues a stream that broke after its first content, at another target if possible, for models with `continue_on_cut`.

    transcript_for     the record of a stream that may be continued: a stream with one choice of plain text
    followers          the candidates that can continue: targets that accept the beginning of an answer
    continued_body     the request for the rest: the text so far as the beginning of the answer, and a lower output limit

JSON, tool calls and reasoning are not continued: a grammar or parser cannot start in the middle of an answer.
The text is sent without its trailing white space, which some servers refuse and others trim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.streams.transcript import Transcript
from providers.base import Adjustment, Body, Target

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.targets.candidate import Candidate

GRAMMAR_PARAMETERS = frozenset({
    "ebnf", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "json_schema", "regex", "structured_outputs",
})  # fmt: skip
"""Parameters that constrain an answer to a grammar."""


def transcript_for(call: Call, choices: Sequence[Candidate]) -> Transcript | None:
    """Return an empty transcript for a stream that may be continued, None for any other call."""
    body = call.body
    if body is None or not call.stream or not call.dialect.can_continue or not choices[0].settings.continue_on_cut:
        return None
    format = body.get("response_format") or {}
    messages = body.get("messages")
    plain = (body.get("n") or 1) == 1 and format.get("type", "text") == "text"
    may_continue = plain and GRAMMAR_PARAMETERS.isdisjoint(body) and messages and messages[-1].get("role") != "assistant"
    return Transcript() if may_continue else None


def followers(transcript: Transcript, choices: Sequence[Candidate], broken: Candidate) -> list[Candidate]:
    """Return those of the candidates after the failed one that can continue a final assistant message.

    If there are none, return the failed one if it can continue this stream and has not yet done so.
    """
    names = [choice.backend.target.name for choice in choices]
    name = broken.backend.target.name
    later = choices[names.index(name) + 1 :] if name in names else ()
    after = [choice for choice in later if prefill(choice.backend.target) is not None]
    again = prefill(broken.backend.target) is not None and all(handover.target != name for handover in transcript.handovers)
    return after or ([broken] if again else [])


def continued_body(transcript: Transcript, call: Call, body: Body) -> tuple[Body, list[Adjustment]]:
    """Return the caller's body with the text sent so far and with lower output limits, and the list of these changes."""
    rest = body.copy()
    made: list[Adjustment] = []
    text = transcript.text.rstrip()
    if text:
        messages = body.get("messages")
        rest.set("messages", [*messages, {"role": "assistant", "content": text}])
        made.append(Adjustment(f"messages[{len(messages)}]", "set_default", why="the text sent so far, which the target continues"))
    tokens = sum(attempt.usage.completion_tokens for attempt in call.attempts if attempt.usage is not None)
    for name, least in (("max_tokens", 1), ("max_completion_tokens", 1), ("min_tokens", 0)):
        number = body.get(name)
        if type(number) is int:
            left = max(least, number - tokens)
            rest.set(name, left)
            if left != number:
                made.append(Adjustment(name, "reshape", number, left, "the tokens sent so far are subtracted"))
    return rest, made


def set_prefill(transcript: Transcript, body: Body, target: Target) -> None:
    """Ask the target to continue the last message of an adapted body instead of answering it."""
    if transcript.text.rstrip():
        for name, value in (prefill(target) or {}).items():
            body.set(name, value)


def prefill(target: Target) -> Mapping[str, Any] | None:
    """Return the fields with which the target continues a final assistant message, or None if it cannot."""
    return target.kind.prefill
