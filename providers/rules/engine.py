"""Parameter rules as data: what a provider takes, and what is done to what it does not.

A provider is a tuple of small frozen rules. `Plan` compiles them once per model into a table from parameter to rules, so
that a request that needs nothing costs one look-up per key; a value is decoded only when a rule must see it.

    adapted = plan.apply(body, label, options, settings)   the adjustments, in the order they were made

Lossy adjustments (drop, clamp, downgrade) raise Refusal in strict mode, unless the value was neutral: dropping `n: 1` where
one choice is all there is changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from providers.base import Action, Adjustment, Body, Options, Refusal

UNSUPPORTED = "not supported upstream"

UnknownPolicy = Literal["drop", "pass", "new"]
"""What happens to fields without a rule: dropped, passed, or passed only when they are not CANONICAL_PARAMS."""

_NAMES = (
    "model messages stream stream_options max_tokens max_completion_tokens min_tokens min_completion_tokens temperature top_p top_k "
    "min_p typical_p frequency_penalty presence_penalty repetition_penalty seed n stop logit_bias logprobs top_logprobs "
    "response_format tools tool_choice parallel_tool_calls functions function_call user safety_identifier prompt_cache_key "
    "prompt_cache_isolation_key metadata store service_tier reasoning_effort verbosity prediction modalities audio "
    "web_search_options system_prompt prompt_truncate_len context_length_exceeded_behavior timeout_microseconds eos_token "
    "ignore_eos controller filter_vocabulary thinking reasoning_budget reasoning_format include_reasoning disable_reasoning "
    "clear_thinking chat_template_kwargs xtc_threshold xtc_probability mirostat mirostat_target mirostat_lr echo safe_prompt team "
    "cf_ray x_amz_cf_id x_delay_time idempotency_key perf_metrics_in_response"
)
CANONICAL_PARAMS: frozenset[str] = frozenset(_NAMES.split())
"""Parameters that callers may send to any provider: OpenAI's, and what vendors added to them."""

NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "min_tokens": (0,),
    "min_completion_tokens": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "store": (False,),
    "stop": ([],),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "stream_options": ({}, {"include_usage": False}),
    "modalities": (["text"],),
    "service_tier": ("auto",),
    "echo": (False,),
    "ignore_eos": (False,),
    "eos_token": ([],),
    "mirostat": (0,),
    "xtc_probability": (0,),
    "safe_prompt": (False,),
    "disable_reasoning": (False,),
    "context_length_exceeded_behavior": ("error",),
    "perf_metrics_in_response": (False,),
    "chat_template_kwargs": ({},),
    "safe_tokenization": (False,),
}
"""Values that ask for nothing: dropping them loses nothing, so that strict mode allows it."""


def is_neutral(param: str, value: Any) -> bool:
    """True when leaving the parameter out means the same: null, or one of NEUTRAL_VALUES."""
    return value is None or value in NEUTRAL_VALUES.get(param, ())


class Work:
    """One body being adapted: what rules read, change and report."""

    __slots__ = ("adjustments", "body", "label", "options", "settings", "strict")

    def __init__(self, body: Body, label: str, options: Options, settings: Mapping[str, Any]) -> None:
        self.body = body
        self.label = label
        self.options = options
        self.settings = settings
        self.strict = options.strict
        self.adjustments: list[Adjustment] = []

    def report(self, param: str, action: Action, *, from_: Any = None, to: Any = None, why: str = "") -> None:
        """Record a change that keeps what the caller meant."""
        self.adjustments.append(Adjustment(param, action, from_, to, why))

    def report_lossy(self, param: str, action: Action, why: str, *, from_: Any = None, to: Any = None, code: str = "invalid_value") -> None:
        """Record a change that loses something; in strict mode it is a Refusal instead."""
        if self.strict:
            raise Refusal(f"'{param}' cannot be honoured by {self.label}: {why}.", param, code)
        self.adjustments.append(Adjustment(param, action, from_, to, why))

    def drop(self, param: str, why: str = UNSUPPORTED, code: str = "unsupported_parameter") -> None:
        """Remove a parameter: lossy, unless its value was neutral."""
        if is_neutral(param, self.body.get(param)):
            self.report(param, "drop", why="neutral value")
        else:
            self.report_lossy(param, "drop", why, code=code)
        self.body.pop(param)

    def refuse(self, param: str, why: str, code: str = "invalid_value") -> Refusal:
        """The 400 of both modes."""
        return Refusal(f"'{param}' cannot be sent to {self.label}: {why}.", param, code)


class Rule(msgspec.Struct, frozen=True):
    """What a provider does with one parameter."""

    param: str

    runs: ClassVar[Literal["present", "always", "stream"]] = "present"
    """When to apply: the parameter is in the body, on every body, or on streams and when the parameter is in the body."""

    @property
    def params(self) -> tuple[str, ...]:
        """The parameters whose presence makes this rule run."""
        return (self.param,)

    @property
    def may_add(self) -> tuple[str, ...]:
        """Parameters that this rule may add to the body, whose own rules then run as well."""
        return ()

    @property
    def replaces(self) -> tuple[str, ...]:
        """What a model's own rules replace: the general rules of the same parameters."""
        return self.params

    def apply(self, work: Work) -> None:
        """Adjust the body and report it, or raise Refusal. Only called when the rule's turn has come."""
        raise NotImplementedError

    def describe(self) -> dict[str, dict[str, Any]]:
        """What the capability table says: parameter to {support: yes | adjusted | no, ...}."""
        return {self.param: {"support": "yes"}}


class Accepts(Rule, frozen=True):
    """Parameters, separated by spaces, that pass as they are."""

    @property
    def params(self) -> tuple[str, ...]:
        return tuple(self.param.split())

    def apply(self, work: Work) -> None:
        """Nothing to do."""

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"support": "yes"} for name in self.params}


class ForModels(msgspec.Struct, frozen=True):
    """Rules for models whose name starts with one of `prefixes`; they replace the general rules of the same parameters."""

    prefixes: tuple[str, ...]
    rules: tuple[Rule, ...]


_PASSES: tuple[int, ...] = ()


class CompiledRules:
    """The rules of one provider for one model, compiled."""

    def __init__(self, rules: Iterable[Rule], *, unknown: UnknownPolicy) -> None:
        self.rules = tuple(rules)
        self.unknown = unknown
        table: dict[str, tuple[int, ...]] = {}
        always, streams = [], []
        for at, rule in enumerate(self.rules):
            for param in rule.params:
                table[param] = table.get(param, ()) + (_PASSES if isinstance(rule, Accepts) else (at,))
            if rule.runs == "always":
                always.append(at)
            elif rule.runs == "stream":
                streams.append(at)
        for rule in self.rules:
            for param in rule.params if rule.may_add else ():
                table[param] = tuple({at for name in (param, *rule.may_add) for at in table.get(name, ())})
        self._table = table
        self._always = tuple(always)
        self._streams = tuple(streams)

    def apply(self, body: Body, label: str, options: Options, settings: Mapping[str, Any]) -> list[Adjustment]:
        """Adjust `body` in place; what was done, in order. Refusal when it cannot be."""
        turns: list[int] = [*self._always, *self._streams] if options.stream else list(self._always)
        table = self._table
        unknown: list[str] | None = None
        for name in body:
            found = table.get(name)
            if found is None:
                if self._drops(name):
                    unknown = [*(unknown or ()), name]
            elif found:
                turns += found
        if not turns and unknown is None:
            return []
        work = Work(body, label, options, settings)
        if unknown is not None:
            for name in unknown:
                drop_unlisted(work, name)
        rules = self.rules
        for at in sorted(set(turns)):
            rules[at].apply(work)
        return work.adjustments

    def _drops(self, name: str) -> bool:
        return self.unknown == "drop" or (self.unknown == "new" and name in CANONICAL_PARAMS)

    def capabilities(self) -> dict[str, dict[str, Any]]:
        """Every canonical parameter, and what the rules say about it."""
        absent = {"support": "passed"} if self.unknown == "pass" else {"support": "no"}
        table: dict[str, dict[str, Any]] = {}
        for rule in self.rules:
            for param, said in rule.describe().items():
                known = table.get(param, {})
                worst = max(known.get("support", "yes"), said.get("support", "yes"), key=_WORSE.index)
                table[param] = {**known, **said, "support": worst}
        return {name: table.get(name, absent) for name in sorted(CANONICAL_PARAMS | table.keys())}


_WORSE = ("yes", "adjusted", "no")
"""Of two rules on a parameter, the one that takes more away describes it."""


def compile_rules(rules: Iterable[Rule | ForModels], model: str, *, unknown: UnknownPolicy) -> CompiledRules:
    """The plan for one model: the first ForModels whose prefix fits wins over the general rules."""
    rules = tuple(rules)
    general = [rule for rule in rules if isinstance(rule, Rule)]
    for special in rules:
        if isinstance(special, ForModels) and model.startswith(special.prefixes):
            replaced = {slot for rule in special.rules for slot in rule.replaces}
            general = [left for rule in general for left in _without(rule, replaced)]
            general += special.rules
            break
    return CompiledRules(general, unknown=unknown)


def _without(rule: Rule, replaced: set[str]) -> tuple[Rule, ...]:
    if isinstance(rule, Accepts):
        left = [name for name in rule.params if name not in replaced]
        return (Accepts(" ".join(left)),) if left else ()
    return () if replaced.intersection(rule.replaces) else (rule,)


def drop_unlisted(work: Work, name: str) -> None:
    """A parameter that the provider does not list: dropped, refused in strict mode."""
    if name in CANONICAL_PARAMS:
        work.drop(name)
    else:
        work.drop(name, "unknown parameter", "unknown_parameter")
