"""Rules that only the embedded engine needs, because of its small model or its server."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from providers.local.min_tokens import MIN_TOKENS_CHOICES_MEMO, MIN_TOKENS_MEMO
from providers.local.options import LocalOptions
from providers.rules.places import Place, places_of
from providers.rules.rule import Rule, Work
from providers.rules.shapes import MAX_FANOUT

DEFAULTS = LocalOptions()
SEED_MODULUS = 2**32 - 1
"""The engine's seeds have 32 bits, and the highest value means "random"."""
MODEL_MEMO = "local.model"
"""Key of `Options.memo`: the model that the caller asked for, which the answers name."""
BUNDLED_PENALTY = 1.05
"""Repetition penalty of the bundled model. Without it, at temperature 0, half of the answers repeat one sentence endlessly."""
TOP_LOGPROBS_MEMO = "local.top_logprobs"
"""Key of `Options.memo`: the number of alternatives for each token that the caller requests."""
CHOICES_MEMO = "local.n"
"""Key of `Options.memo`: number of choices of the answer, for each prompt."""
PROMPTS_MEMO = "prompts"
"""Key of `Options.memo`: number of prompts of a completion."""


class DefaultSystemMessage(Rule, frozen=True):
    """Adds a neutral system message if the messages begin with none: the default of the bundled model's template degrades answers."""

    param: str = "messages"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        text = work.settings.get("system", DEFAULTS.system)
        messages = work.body.get("messages")
        if not text or not messages or messages[0].get("role") in ("system", "developer"):
            return
        work.body.set("messages", [{"role": "system", "content": text}, *messages])
        work.report("messages[0]", "set_default", to=text, why="the model needs a neutral system message")
        work.body.places = [Place("messages", is_exact=False), *places_of(work.body, range(len(messages)))]

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "default_system": DEFAULTS.system}}


class DefaultTemperature(Rule, frozen=True):
    """Sets the default temperature (0) if the caller sets no sampling parameter: a small model answers best with its likeliest tokens."""

    param: str = "temperature"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"
    others: tuple[str, ...] = ("top_p", "top_k", "min_p", "typical_p", "seed", "mirostat", "xtc_probability")

    def apply(self, work: Work) -> None:
        value = work.settings.get("temperature", DEFAULTS.temperature)
        body = work.body
        if value is not None and body.get("temperature") is None and all(body.get(name) is None for name in self.others):
            body.set("temperature", value)
            work.report("temperature", "set_default", to=value, why="no sampling parameter is set")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"temperature": {"support": "yes", "default": DEFAULTS.temperature}}


class DefaultPenalty(Rule, frozen=True):
    """Sets a repetition penalty for plain text of the bundled model, if the caller sets no penalty."""

    param: str = "repetition_penalty"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"
    others: tuple[str, ...] = ("frequency_penalty", "presence_penalty", "tools", "functions", "response_format")

    def apply(self, work: Work) -> None:
        """Set the penalty for plain text of the bundled model, but not for tool calls and JSON, which repeat words and punctuation."""
        body = work.body
        if work.settings.get("model") is not None or any(body.get(name) for name in (self.param, *self.others)):
            return
        body.set("repeat_penalty", BUNDLED_PENALTY)
        work.report("repetition_penalty", "set_default", to=BUNDLED_PENALTY, why="the bundled model repeats itself without it")
        work.report("repetition_penalty", "rename", to="repeat_penalty")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"repetition_penalty": {"support": "yes", "default": BUNDLED_PENALTY}}


class FoldSeed(Rule, frozen=True):
    """Reduces seeds of 64 bits to the engine's 32 bits. The same seed still produces the same text."""

    param: str = "seed"

    def apply(self, work: Work) -> None:
        seed = work.body.get("seed")
        folded = [number % SEED_MODULUS for number in seed] if type(seed) is list else seed % SEED_MODULUS if type(seed) is int else seed
        if folded != seed:
            work.body.set("seed", folded)
            work.report("seed", "reshape", from_=seed, to=folded, why="the engine's seeds have 32 bits")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"seed": {"support": "yes"}}


class SlotChoices(Rule, frozen=True):
    """Requests `n` choices in one request, one per slot. More choices than slots, or a list of seeds, need one request for each choice."""

    param: str = "n"

    @property
    def params(self) -> tuple[str, ...]:
        return ("n", "seed")

    def apply(self, work: Work) -> None:
        """Decide between one request and several."""
        n, seed = work.body.get("n"), work.body.get("seed")
        slots = work.settings.get("slots", DEFAULTS.slots)
        count = 1 if n is None else n
        if type(seed) is list:
            if len(seed) != count:
                raise work.refuse("seed", f"a list of seeds must have one seed for each of the {count} choices")
            if count == 1:
                work.body.set("seed", seed[0])
                work.report("seed", "reshape", why="the engine accepts one integer")
        if count > 1 and MIN_TOKENS_MEMO in work.options.memo:
            self._one_by_one(work, count)
            count = 1
        elif count > 1 and (count > slots or type(seed) is list):
            self._fan_out(work, count)
            count = 1
        work.options.memo[CHOICES_MEMO] = count

    def _one_by_one(self, work: Work, count: int) -> None:
        if count > MAX_FANOUT:
            raise work.refuse("n", f"one call is limited to {MAX_FANOUT} requests")
        work.body.pop("n")
        work.options.memo[MIN_TOKENS_CHOICES_MEMO] = count
        work.report("n", "enforce_locally", from_=count, why="with min_tokens, the choices are generated one after another")

    def _fan_out(self, work: Work, count: int) -> None:
        if count > MAX_FANOUT:
            raise work.refuse("n", f"one call is limited to {MAX_FANOUT} requests")
        work.body.pop("n")
        work.report("n", "fan_out", from_=count, why="one request per choice; each counts the prompt, and usage is added up")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"n": {"support": "yes", "max": MAX_FANOUT}}


class DropEmptyStops(Rule, frozen=True):
    """Drops empty stop strings, which would end the answer before it begins."""

    param: str = "stop"

    def apply(self, work: Work) -> None:
        stop = work.body.get("stop")
        stops = [stop] if type(stop) is str else stop
        if stops and "" in stops:
            kept = [text for text in stops if text]
            work.report("stop", "drop", from_=len(stops), to=len(kept), why="an empty stop string would end the answer at once")
            if kept:
                work.body.set("stop", kept)
            else:
                work.body.pop("stop")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"stop": {"support": "yes"}}


class ListAlternatives(Rule, frozen=True):
    """Requests one alternative if `top_logprobs` is absent or 0: the engine would list 20, or would send no logprobs at all."""

    param: str = "logprobs"

    def apply(self, work: Work) -> None:
        """Request at least one alternative. Without `logprobs: true`, drop both parameters.

        The decoder removes the alternatives that the caller did not ask for.
        """
        body = work.body
        if body.get("logprobs") is not True:
            for name in ("logprobs", "top_logprobs"):
                if name in body:
                    work.drop(name)
            return
        count = body.get("top_logprobs") or 0
        work.options.memo[TOP_LOGPROBS_MEMO] = count
        if count == 0:
            body.set("top_logprobs", 1)
            work.report("top_logprobs", "set_default", to=1, why="the engine requires one; it is removed from the answer")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"logprobs": {"support": "yes"}}


class WarnUnanchoredPatterns(Rule, frozen=True):
    """Warns about a `pattern` without ^ and $ in a schema, because the engine silently ignores such a pattern."""

    param: str = "response_format"

    def apply(self, work: Work) -> None:
        if b'"pattern"' in (work.body.raw(self.param) or b"") and _loose_pattern(work.body.get(self.param)):
            work.report(self.param, "warn", why="a pattern without ^ and $ is not enforced")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def _loose_pattern(schema: Any) -> bool:
    """Return whether a pattern anywhere in the schema is not anchored at both ends."""
    if type(schema) is list:
        return any(_loose_pattern(part) for part in schema)
    if type(schema) is not dict:
        return False
    pattern = schema.get("pattern")
    if type(pattern) is str and not (pattern.startswith("^") and pattern.endswith("$")):
        return True
    return any(_loose_pattern(part) for part in schema.values())
