"""The rule engine. A provider declares a tuple of small frozen rules: the values that it accepts, and how to adapt the others.

    adjustments = compiled.apply(body, label, options, settings)

`CompiledRules` maps parameters to rules once per model, and caches which rules apply to each set of parameters.
A value is decoded only if a rule reads it.

A lossy adjustment (drop, clamp, downgrade) raises Refusal in strict mode, unless the value is neutral: dropping `n: 1`
changes nothing if the provider always returns one choice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from providers.base import Action, Adjustment, Body, Options, Refusal
from providers.rules.places import callers_param

UNSUPPORTED = "not supported upstream"

UnknownPolicy = Literal["drop", "pass", "new"]
"""Treatment of fields without a rule: dropped, passed, or passed unless they are in CANONICAL_PARAMS."""

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
"""Parameters that callers may send to any provider: OpenAI's, and those that vendors added."""

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
"""Values without effect. Dropping them changes nothing, so strict mode allows it."""


def is_neutral(param: str, value: Any) -> bool:
    """Return whether omitting the parameter means the same as sending this value: the value is null or in NEUTRAL_VALUES."""
    return value is None or value in NEUTRAL_VALUES.get(param, ())


class Work:
    """The adaptation of one body, with the methods by which rules change it and report their changes."""

    __slots__ = ("adjustments", "body", "label", "options", "settings", "strict")

    def __init__(self, body: Body, label: str, options: Options, settings: Mapping[str, Any]) -> None:
        self.body = body
        self.label = label
        self.options = options
        self.settings = settings
        self.strict = options.strict
        self.adjustments: list[Adjustment] = []

    def report(self, param: str, action: Action, *, from_: Any = None, to: Any = None, why: str = "") -> None:
        """Record a change that keeps the caller's meaning."""
        self.adjustments.append(Adjustment(callers_param(self.body, param), action, from_, to, why))

    def report_lossy(self, param: str, action: Action, why: str, *, from_: Any = None, to: Any = None, code: str = "invalid_value") -> None:
        """Record a lossy change. Raise Refusal in strict mode."""
        param = callers_param(self.body, param)
        if self.strict:
            raise Refusal(f"'{param}' cannot be honoured by {self.label}: {why}.", param, code)
        self.adjustments.append(Adjustment(param, action, from_, to, why))

    def drop(self, param: str, why: str = UNSUPPORTED, code: str = "unsupported_parameter") -> None:
        """Remove a parameter that the body has. The change is lossy unless the value is neutral."""
        if param not in self.body:
            return  # a rule also runs for a parameter that another rule may add but did not add
        if is_neutral(param, self.body.get(param)):
            self.report(param, "drop", why="neutral value")
        else:
            self.report_lossy(param, "drop", why, code=code)
        self.body.pop(param)

    def refuse(self, param: str, why: str, code: str = "invalid_value") -> Refusal:
        """Return the Refusal of a value that cannot be sent even without strict mode."""
        param = callers_param(self.body, param)
        return Refusal(f"'{param}' cannot be sent to {self.label}: {why}.", param, code)


class Rule(msgspec.Struct, frozen=True):
    """The treatment of one parameter by a provider."""

    param: str

    runs: ClassVar[Literal["present", "always", "stream"]] = "present"
    """The bodies to which the rule applies.

    `present`: those with the parameter. `always`: all. `stream`: those with the parameter, and all streams.
    """
    defines: ClassVar[bool] = True
    """Whether this rule makes its parameters known. If not, they are unknown unless another rule does."""

    repeats: ClassVar[bool] = False
    """Whether the rule depends only on the values of its parameters, which callers send again and again, such as the tools of an agent.

    If it has had no effect on large values, it is not applied to the same values again. A subclass must state this itself.
    """

    @property
    def params(self) -> tuple[str, ...]:
        """The parameters that trigger this rule."""
        return (self.param,)

    def is_due(self, names: Collection[str]) -> bool:
        """Return whether the rule may have an effect on a body with these parameters, which include one that triggers it."""
        return True

    @property
    def may_add(self) -> tuple[str, ...]:
        """Parameters that this rule may add to the body; their rules then run as well."""
        return ()

    @property
    def replaces(self) -> tuple[str, ...]:
        """The parameters whose general rules this rule replaces, if it belongs to a ForModels."""
        return self.params

    def apply(self, work: Work) -> None:
        """Adjust the body and report the change, or raise Refusal."""
        raise NotImplementedError

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the capabilities of each parameter: {support: yes | adjusted | no, ...}."""
        return {self.param: {"support": "yes"}}


class Accepts(Rule, frozen=True):
    """Parameters, separated by spaces, that pass unchanged."""

    @property
    def params(self) -> tuple[str, ...]:
        return tuple(self.param.split())

    def apply(self, work: Work) -> None:
        """Do nothing."""

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"support": "yes"} for name in self.params}


class ForModels(msgspec.Struct, frozen=True):
    """Rules for models whose name starts with one of `prefixes`. They replace the general rules of the same parameters."""

    prefixes: tuple[str, ...]
    rules: tuple[Rule, ...]

    def matches(self, model: str) -> bool:
        """Return whether the rules apply to this model."""
        return model.startswith(self.prefixes)

    def rules_for(self, model: str) -> tuple[Rule, ...]:
        """Return the rules for a matching model."""
        return self.rules


_PASSES: tuple[int, ...] = ()
MAX_UNAFFECTED = 512
"""Maximum number of values on which rules have no effect that are remembered for each model. A list of tools takes 600 bytes."""
MAX_PLANS, MAX_PLANNED_CHARS = 500, 500
"""Maximum number of parameter sets whose rules are cached for each model, and maximum length of the names of a set."""


class CompiledRules:
    """The rules of one provider for one model."""

    def __init__(self, rules: Iterable[Rule], *, unknown: UnknownPolicy) -> None:
        self.rules = tuple(rules)
        self.unknown = unknown
        table: dict[str, tuple[int, ...]] = {}
        known = {param for rule in self.rules if rule.defines for param in rule.params}
        always, streams = [], []
        for index, rule in enumerate(self.rules):
            for param in rule.params:
                if rule.defines or param in known or unknown == "pass":
                    table[param] = table.get(param, ()) + (_PASSES if isinstance(rule, Accepts) else (index,))
            if rule.runs == "always":
                always.append(index)
            elif rule.runs == "stream":
                streams.append(index)
        for rule in self.rules:
            for param in rule.params if rule.may_add else ():
                if param not in table:
                    continue
                table[param] = tuple({index for name in (param, *rule.may_add) for index in table.get(name, ())})
        self._table = table
        self._plans: dict[tuple[str | bool, ...], tuple[tuple[str, ...], tuple[Rule, ...]]] = {}
        """The results of `_plan` by the names of the parameters and whether the answer is a stream."""
        self._repeating = frozenset(id(rule) for rule in self.rules if vars(type(rule)).get("repeats", False))
        self._unaffected: set[tuple[object, ...]] = set()
        """The rules with `repeats` and the keys of values on which they have no effect."""
        self._always = tuple(always)
        self._streams = tuple(streams)

    def apply(self, body: Body, label: str, options: Options, settings: Mapping[str, Any]) -> list[Adjustment]:
        """Adjust `body` in place and return the adjustments in order. Raise Refusal if the body cannot be sent."""
        names = (*body, options.stream)
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plan(tuple(body), stream=options.stream)
            if len(self._plans) < MAX_PLANS and sum(map(len, body)) < MAX_PLANNED_CHARS:
                self._plans[names] = plan
        unknown, due = plan
        if not due and not unknown:
            return []
        work = Work(body, label, options, settings)
        for name in unknown:
            drop_unlisted(work, name)
        for rule in due:
            if id(rule) in self._repeating and (key := body.key_of(rule.params)) is not None:
                self._apply_once(rule, work, key)
            else:
                rule.apply(work)
        return work.adjustments

    def _apply_once(self, rule: Rule, work: Work, key: tuple[object, ...]) -> None:
        """Apply a rule, unless it has had no effect on the same values."""
        known = (id(rule), *key)
        if known in self._unaffected:
            return
        reported, memo = len(work.adjustments), dict(work.options.memo)
        rule.apply(work)
        if len(work.adjustments) == reported and work.options.memo == memo and work.body.key_of(rule.params) == key:
            if len(self._unaffected) >= MAX_UNAFFECTED:
                self._unaffected.clear()
            self._unaffected.add(known)

    def _plan(self, names: Collection[str], *, stream: bool) -> tuple[tuple[str, ...], tuple[Rule, ...]]:
        """For a body with these parameters, return those that are dropped because they have no rule, and the rules that apply."""
        due = {*self._always, *self._streams} if stream else set(self._always)
        unknown: list[str] = []
        for name in names:
            indexes = self._table.get(name)
            if indexes is not None:
                due.update(indexes)
            elif self._drops(name):
                unknown.append(name)
        rules = [self.rules[index] for index in sorted(due)]
        possible = {*names, *(name for rule in rules for name in rule.may_add)}
        return tuple(unknown), tuple(rule for rule in rules if rule.is_due(possible))

    def _drops(self, name: str) -> bool:
        return self.unknown == "drop" or (self.unknown == "new" and name in CANONICAL_PARAMS)

    def capabilities(self) -> dict[str, dict[str, Any]]:
        """Return the capabilities of every canonical parameter, and of every other parameter that a rule describes."""
        absent = {"support": "passed"} if self.unknown == "pass" else {"support": "no"}
        table: dict[str, dict[str, Any]] = {}
        for rule in self.rules:
            for param, entry in rule.describe().items():
                previous = table.get(param, {})
                worst = max(previous.get("support", "yes"), entry.get("support", "yes"), key=_WORSE.index)
                table[param] = {**previous, **entry, "support": worst}
        return {name: table.get(name, absent) for name in sorted(CANONICAL_PARAMS | table.keys())}


_WORSE = ("yes", "passed", "adjusted", "no")
"""Support levels. If two rules describe a parameter, the level that is later in this list applies."""


def compile_rules(rules: Iterable[Rule | ForModels], model: str, *, unknown: UnknownPolicy) -> CompiledRules:
    """Return the rules for one model. The rules of the first matching ForModels replace the general rules of the same parameters."""
    rules = tuple(rules)
    general = [rule for rule in rules if isinstance(rule, Rule)]
    for special in rules:
        if isinstance(special, ForModels) and special.matches(model):
            own = special.rules_for(model)
            replaced = {slot for rule in own for slot in rule.replaces}
            general = [kept for rule in general for kept in _without(rule, replaced)]
            general += own
            break
    return CompiledRules(general, unknown=unknown)


def _without(rule: Rule, replaced: set[str]) -> tuple[Rule, ...]:
    if isinstance(rule, Accepts):
        kept = [name for name in rule.params if name not in replaced]
        return (Accepts(" ".join(kept)),) if kept else ()
    return () if replaced.intersection(rule.replaces) else (rule,)


def drop_unlisted(work: Work, name: str) -> None:
    """Drop a parameter that the provider does not define. Raise Refusal in strict mode, unless the value is neutral."""
    if name in CANONICAL_PARAMS:
        work.drop(name)
    else:
        work.drop(name, "unknown parameter", "unknown_parameter")
