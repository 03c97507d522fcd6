"""Rules of the embedded engine that no other provider needs: what its small model and its listener ask for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from providers.local.options import LocalOptions
from providers.rules.engine import Rule, Work
from providers.rules.shapes import MAX_FANOUT

DEFAULTS = LocalOptions()
SEED_MODULUS = 2**32 - 1
"""The engine's seeds are 32 bits wide, and the last one means "draw one"."""
TOP_LOGPROBS_MEMO = "local.top_logprobs"
"""Memo: how many alternatives for each token the caller asked for."""
CHOICES_MEMO = "local.n"
"""Memo: how many choices the answer has."""


class DefaultSystemMessage(Rule, frozen=True):
    """A neutral system message where the caller sent none: the bundled model's own default spoils its answers."""

    param: str = "messages"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Put it first."""
        text = work.settings.get("system", DEFAULTS.system)
        messages = work.body.get("messages")
        if not text or not messages or messages[0].get("role") in ("system", "developer"):
            return
        work.body.set("messages", [{"role": "system", "content": text}, *messages])
        work.report("messages[0]", "set_default", to=text, why="the model needs a neutral system message")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "default_system": DEFAULTS.system}}


class DefaultTemperature(Rule, frozen=True):
    """Temperature 0 where the caller set nothing about sampling: a small model's most likely words are its best."""

    param: str = "temperature"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"
    others: tuple[str, ...] = ("top_p", "top_k", "min_p", "typical_p", "seed", "mirostat", "xtc_probability")

    def apply(self, work: Work) -> None:
        """State it."""
        value = work.settings.get("temperature", DEFAULTS.temperature)
        body = work.body
        if value is not None and body.get("temperature") is None and all(body.get(name) is None for name in self.others):
            body.set("temperature", value)
            work.report("temperature", "set_default", to=value, why="nothing was said about sampling")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"temperature": {"support": "yes", "default": DEFAULTS.temperature}}


class FoldSeed(Rule, frozen=True):
    """Seeds of 64 bits are folded into the engine's 32: the same seed still gives the same text."""

    param: str = "seed"

    def apply(self, work: Work) -> None:
        """Fold what is out of range."""
        seed = work.body.get("seed")
        folded = [one % SEED_MODULUS for one in seed] if type(seed) is list else seed % SEED_MODULUS if type(seed) is int else seed
        if folded != seed:
            work.body.set("seed", folded)
            work.report("seed", "reshape", from_=seed, to=folded, why="the engine's seeds have 32 bits")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"seed": {"support": "yes"}}


class SlotChoices(Rule, frozen=True):
    """`n` choices natively, one in each slot; by one call each where there are more than slots, or a seed for each."""

    param: str = "n"

    @property
    def params(self) -> tuple[str, ...]:
        return ("n", "seed")

    def apply(self, work: Work) -> None:
        """Decide between the slots and several calls."""
        n, seed = work.body.get("n"), work.body.get("seed")
        slots = work.settings.get("slots", DEFAULTS.slots)
        count = 1 if n is None else n
        if type(seed) is list:
            if len(seed) != count:
                raise work.refuse("seed", f"a list of seeds needs one for each of the {count} choices")
            if count == 1:
                work.body.set("seed", seed[0])
                work.report("seed", "reshape", why="the engine takes one integer")
        if count > 1 and (count > slots or type(seed) is list):
            self._fan_out(work, count)
            count = 1
        work.options.memo[CHOICES_MEMO] = count

    def _fan_out(self, work: Work, count: int) -> None:
        if count > MAX_FANOUT:
            raise work.refuse("n", f"one call may become at most {MAX_FANOUT}")
        work.body.pop("n")
        work.report("n", "fan_out", from_=count, why="one call for each choice; the prompt counts in each, and usage is added up")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"n": {"support": "yes", "max": MAX_FANOUT}}


class DropEmptyStops(Rule, frozen=True):
    """Empty stop strings end an answer before it begins: they are left out."""

    param: str = "stop"

    def apply(self, work: Work) -> None:
        """Keep the stop strings that say something."""
        stop = work.body.get("stop")
        given = [stop] if type(stop) is str else stop
        if given and "" in given:
            kept = [one for one in given if one]
            work.report("stop", "drop", from_=len(given), to=len(kept), why="an empty stop string means nothing")
            if kept:
                work.body.set("stop", kept)
            else:
                work.body.pop("stop")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"stop": {"support": "yes"}}


class ListAlternatives(Rule, frozen=True):
    """`logprobs` without alternatives: the engine gives none at all for 0, and twenty when not told, so it is asked for one."""

    param: str = "logprobs"

    def apply(self, work: Work) -> None:
        """Ask for at least one alternative; the decoder takes out what the caller did not ask for."""
        body = work.body
        if body.get("logprobs") is not True:
            body.pop("logprobs")
            body.pop("top_logprobs")
            return
        asked = body.get("top_logprobs") or 0
        work.options.memo[TOP_LOGPROBS_MEMO] = asked
        if asked == 0:
            body.set("top_logprobs", 1)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"logprobs": {"support": "yes"}}


class WarnUnanchoredPatterns(Rule, frozen=True):
    """A schema's `pattern` is enforced only when it is anchored at both ends: the engine ignores others silently, we do not."""

    param: str = "response_format"

    def apply(self, work: Work) -> None:
        """Warn."""
        if b'"pattern"' in (work.body.raw(self.param) or b"") and _loose_pattern(work.body.get(self.param)):
            work.report(self.param, "warn", why="a pattern without ^ and $ is not enforced")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def _loose_pattern(schema: Any) -> bool:
    """Whether a pattern anywhere in the schema lacks an anchor."""
    if type(schema) is list:
        return any(_loose_pattern(one) for one in schema)
    if type(schema) is not dict:
        return False
    pattern = schema.get("pattern")
    if type(pattern) is str and not (pattern.startswith("^") and pattern.endswith("$")):
        return True
    return any(_loose_pattern(one) for one in schema.values())
