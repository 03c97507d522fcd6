"""Rules for completions: the prompts, and the parameters that a chat does not have."""

from __future__ import annotations

from providers.completion_table import COMPLETION_FIELDS, ENGINES, ONE_TEXT, TEXTS
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.shapes import StopStrings
from providers.rules.values import Default, Range

DEFAULT_MAX_TOKENS = 16
"""Maximum number of output tokens of a completion without `max_tokens`, at OpenAI and in vLLM."""
LEGACY = {"echo": False, "suffix": "", "best_of": 1}
"""Parameters that change the content of an answer, each with the value that has no effect."""


class Lacks(Rule, frozen=True):
    """A parameter that the provider lacks. A value with an effect is refused, because the answer would differ without it."""

    def apply(self, work: Work) -> None:
        """Remove a value that has no effect. Raise Refusal for any other value."""
        value = work.body.get(self.param)
        if value is not None and value != LEGACY[self.param]:
            raise work.refuse(self.param, "not supported upstream", "unsupported_parameter")
        work.body.pop(self.param)
        work.report(self.param, "drop", why="neutral value")


class Prompts(Rule, frozen=True):
    """A prompt that must be text: one text, or a list of texts if `lists` is set."""

    lists: bool

    def apply(self, work: Work) -> None:
        """Take a single text out of its list. Raise Refusal for token ids and for lists that cannot be sent."""
        value = work.body.get(self.param)
        if type(value) is not list:
            return
        if type(value[0]) is not str:
            raise work.refuse(self.param, "it must be text, not token ids", "unsupported_content")
        if self.lists:
            return
        if len(value) > 1:
            raise work.refuse(self.param, "it must be one text", "unsupported_content")
        work.body.set(self.param, value[0])
        work.report(self.param, "reshape", why="a single text is sent without its list")


def completion_rules(kind: str) -> tuple[Rule, ...]:
    """Return the rules for completions at a provider of type `kind`."""
    if kind in ENGINES:
        default = Default("max_tokens", DEFAULT_MAX_TOKENS, why="the default of completions")
        least = (Range("max_tokens", 1, refuse=True),) if kind == "local" else ()  # for 0, the engine generates a token
        return (*map(Lacks, LEGACY), default, *least)
    fields = COMPLETION_FIELDS.get(kind)
    if fields is None:
        return ()
    names = fields.split()
    rules: list[Rule] = [Accepts(fields), *(Lacks(name) for name in LEGACY if name not in names)]
    rules += [Range("temperature", 0, 2), Range("top_p", 0, 1), Range("frequency_penalty", -2, 2), Range("presence_penalty", -2, 2)]
    if kind in ONE_TEXT or kind in TEXTS:
        rules.append(Prompts("prompt", lists=kind in TEXTS))
    if kind == "together":
        rules.append(StopStrings("stop", as_list=True))
    if kind in ("openai", "azure"):
        rules.append(Range("logprobs", 0, 5))
    return tuple(rules)
