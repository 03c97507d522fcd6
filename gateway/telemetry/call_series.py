"""What the calls of one sort (model, target, answer, key, with a stream or not) add, and to which cells.

The cells are found once, by labels; from then on a call of that sort adds plain integers.
"""

from __future__ import annotations

from bisect import bisect_left

from gateway.call import Call
from gateway.metrics import exemplars
from gateway.metrics.names import Names
from gateway.metrics.series import Series
from gateway.metrics.table import MAX_CODES, OTHER, SOURCES, Labels
from providers.base import Usage

MOST_TOKENS = 10**9
"""Of one answer; an upstream that says more is not believed."""
MOST_COST = 1 << 62
NANO = 10**9
_DURATION, _FIRST_TOKEN, _PER_TOKEN, _OVERHEAD, _ATTEMPT, _USAGE = (SOURCES[name].buckets for name in SOURCES)
_SUM = len(_USAGE) + 1
_OPERATIONS = {"completions": "text_completion"}
"""Operations whose name in the GenAI conventions is another."""


def _observe(values: memoryview, at: int, buckets: tuple[float, ...], seconds: float) -> None:
    values[at + bisect_left(buckets, seconds)] += 1
    values[at + len(buckets) + 1] += int(seconds * NANO)


class Plan:
    """The calls of one sort. A call's record is `add`, then `add_times` where it was answered, `add_usage` where it has a usage."""

    __slots__ = (
        "_attempts", "_cached", "_cost", "_duration", "_first_token", "_input", "_key", "_key_cost", "_key_output", "_key_prompt",
        "_key_requests", "_labels", "_names", "_output", "_output_tokens", "_overhead", "_per_token", "_prompt_tokens", "_reasoning",
        "_requests", "_series", "_source", "_stream", "_values", "target",
    )  # fmt: skip

    def __init__(self, series: Series, names: Names, call: Call, labels: Labels, key: str) -> None:
        """`labels` are those of lockgate_requests; of a call without a key `key` is empty."""
        model, target, provider, operation, status, code = labels
        error = "" if code == "ok" else status  # a histogram has many lines: its errors are few
        self._series, self._names, self._values, self._key = series, names, series.values, key
        self._labels = (model, target, provider, names.system(provider), _OPERATIONS.get(operation, operation), error)
        self.target = target
        self._stream = call.stream
        self._requests = series.at("lockgate_requests", labels)
        self._duration = series.at("duration", self._labels)
        self._key_requests = series.at("lockgate_key_requests", (key,)) if key else -1
        self._attempts: dict[tuple[str, str], int] = {}
        self._overhead = self._first_token = self._per_token = self._input = self._cached = self._reasoning = self._cost = -1
        self._source = "estimated" if call.usage is not None and call.usage.estimated else "reported"

    def add(self, seconds: float) -> None:
        """A call that took so long."""
        values = self._values
        values[self._requests] += 1
        if self._key_requests >= 0:
            values[self._key_requests] += 1
        _observe(values, self._duration, _DURATION, seconds)

    def add_exemplar(self, trace_id: str, seconds: float) -> None:
        """A traced call that took so long."""
        exemplars.put(self._values, self._series.at(exemplars.FAMILY, self._labels), trace_id, seconds)

    def add_times(self, call: Call) -> None:
        """How long the parts of an answer took; the overhead only where one attempt was made, as waits between them are wanted."""
        if self._overhead < 0:
            at, labels = self._series.at, self._labels
            self._overhead = at("overhead", labels)
            if self._stream:
                self._first_token, self._per_token = at("first_token", labels), at("per_token", labels)
        values, first, end = self._values, call.first_byte_at, call.upstream_end
        before = call.sent_at - call.read_at
        if self._stream:
            _observe(values, self._first_token, _FIRST_TOKEN, first - call.started)
            if end > first and call.usage is not None and call.usage.completion_tokens > 1:
                _observe(values, self._per_token, _PER_TOKEN, (end - first) / (call.usage.completion_tokens - 1))
        elif end:
            before += first - end
        if end and len(call.attempts) == 1:
            _observe(values, self._overhead, _OVERHEAD, before if before > 0 else 0.0)

    def add_usage(self, call: Call, usage: Usage) -> None:
        """Tokens and cost."""
        if self._input < 0:
            self._find_usage(call)
        values, prompt, output = self._values, usage.prompt_tokens, usage.completion_tokens
        if not (0 <= prompt <= MOST_TOKENS and 0 <= output <= MOST_TOKENS):
            prompt, output = believed(prompt), believed(output)
        values[self._prompt_tokens] += prompt
        values[self._output_tokens] += output
        values[self._input + bisect_left(_USAGE, prompt)] += 1
        values[self._input + _SUM] += prompt
        values[self._output + bisect_left(_USAGE, output)] += 1
        values[self._output + _SUM] += output
        if self._key_requests >= 0:
            values[self._key_prompt] += prompt
            values[self._key_output] += output
        if usage.cached_tokens > 0 or usage.reasoning_tokens > 0:
            self._add_parts(usage)
        if call.cost > 0:
            self._add_cost(call.cost)

    def _find_usage(self, call: Call) -> None:
        at, both, key = self._series.at, self._labels[:2], self._key
        labels = (self._names.upstream_model(call.target) if call.target is not None else OTHER, *self._labels[3:5])
        self._input, self._output = at("usage", (*labels, "input")), at("usage", (*labels, "output"))
        self._prompt_tokens = at("lockgate_tokens", (*both, "prompt", self._source))
        self._output_tokens = at("lockgate_tokens", (*both, "output", self._source))
        if key:
            self._key_prompt, self._key_output = at("lockgate_key_tokens", (key, "prompt")), at("lockgate_key_tokens", (key, "output"))

    def _add_parts(self, usage: Usage) -> None:
        both, values = self._labels[:2], self._values
        if self._cached < 0:
            self._cached = self._series.at("lockgate_tokens", (*both, "cached", self._source))
            self._reasoning = self._series.at("lockgate_tokens", (*both, "reasoning", self._source))
        values[self._cached] += believed(usage.cached_tokens)
        values[self._reasoning] += believed(usage.reasoning_tokens)

    def _add_cost(self, cost: int) -> None:
        if self._cost < 0:
            self._cost = self._series.at("lockgate_cost_usd", self._labels[:2])
            self._key_cost = self._series.at("lockgate_key_cost_usd", (self._key,)) if self._key else -1
        values = self._values
        values[self._cost] = min(values[self._cost] + cost, MOST_COST)
        if self._key_cost >= 0:
            values[self._key_cost] = min(values[self._key_cost] + cost, MOST_COST)

    def add_attempts(self, call: Call) -> None:
        """How long each attempt took, by the model's name upstream."""
        for attempt in call.attempts:
            sort = (attempt.target, attempt.outcome)
            at = self._attempts.get(sort)
            if at is None:
                at = self._attempt(attempt.target, attempt.outcome)
                if len(self._attempts) < MAX_CODES:
                    self._attempts[sort] = at
            _observe(self._values, at, _ATTEMPT, attempt.ms / 1000)

    def _attempt(self, target: str, outcome: str) -> int:
        provider, _, model = self._names.target_named(target).partition("/")
        error = "" if outcome == "ok" else f"{outcome[0]}xx" if outcome.isdecimal() else outcome
        return self._series.at("attempt", (model or OTHER, self._names.system(provider), self._labels[4], error))


def believed(tokens: int) -> int:
    """Tokens that an answer can have; else 0."""
    return tokens if 0 <= tokens <= MOST_TOKENS else 0
