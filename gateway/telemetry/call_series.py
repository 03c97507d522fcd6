"""The cells of one kind of call (same operation, model, target, outcome and key, streamed or not).

The cells are looked up once, by labels. After that, each call of the kind adds plain integers.
"""

from __future__ import annotations

from bisect import bisect_left

from gateway.call import Attempt, Call
from gateway.metrics import exemplars
from gateway.metrics.declarations import MAX_CODES, OTHER, SOURCES, Labels
from gateway.metrics.names import Names
from gateway.metrics.series import Series
from providers.base import Usage

# a provider that reports more tokens for one answer is assumed to be wrong
MAX_PLAUSIBLE_TOKENS = 10**9
MAX_COST_NANO = 1 << 62
NANO = 10**9
_DURATION, _FIRST_TOKEN, _PER_TOKEN, _OVERHEAD, _ATTEMPT, _USAGE, _QUEUE = (SOURCES[name].buckets for name in SOURCES)
_SUM, _DURATION_SUM = len(_USAGE) + 1, len(_DURATION) + 1
_OPERATIONS = {"completions": "text_completion"}
"""Operations that have another name in the GenAI semantic conventions."""


def _observe(values: memoryview, cell: int, buckets: tuple[float, ...], seconds: float) -> None:
    values[cell + bisect_left(buckets, seconds)] += 1
    values[cell + len(buckets) + 1] += int(seconds * NANO)


class CallSeries:
    """The series that calls of one kind add to.

    For each call, use `add`, then `add_attempts`, then `add_times` if it was answered, and `add_usage` if its usage is known.
    """

    __slots__ = (
        "_attempts", "_cached", "_cost", "_duration", "_first_token", "_input", "_key_cost", "_key_output", "_key_prompt",
        "_key_requests", "_labels", "_names", "_output", "_output_tokens", "_overhead", "_owner", "_per_token", "_prompt_tokens",
        "_reasoning", "_requests", "_series", "_source", "_stream", "_values", "target",
    )  # fmt: skip

    def __init__(self, series: Series, names: Names, call: Call, usage: Usage | None, labels: Labels, owner: Labels) -> None:
        """`labels` are the label values of lockgate_requests; `owner` are the label values of the key and the team, empty without a key."""
        model, target, provider, operation, status, code = labels
        # a histogram has many lines per label set, so its error label has few values: the status class, not the code
        error = "" if code == "ok" else status
        self._series, self._names, self._values, self._owner = series, names, series.values, owner
        self._labels = (model, target, provider, names.system(provider), _OPERATIONS.get(operation, operation), error)
        self.target = target
        self._stream = call.stream
        self._requests = series.cell("lockgate_requests", labels)
        self._duration = series.cell("duration", self._labels)
        self._key_requests = series.cell("lockgate_key_requests", (*owner, status)) if owner else -1
        self._attempts: dict[tuple[str, str], int] = {}
        self._overhead = self._first_token = self._per_token = self._input = self._cached = self._reasoning = (
            self._cost
        ) = -1
        self._source = "estimated" if usage is not None and usage.estimated else "reported"

    def add(self, seconds: float) -> None:
        """Count a call that took `seconds`."""
        values = self._values
        values[self._requests] += 1
        if self._key_requests >= 0:
            values[self._key_requests] += 1
        cell = self._duration
        values[cell + bisect_left(_DURATION, seconds)] += 1  # as `_observe` does, without its call
        values[cell + _DURATION_SUM] += int(seconds * NANO)

    def add_exemplar(self, trace_id: str, seconds: float) -> None:
        """Keep a traced call as the exemplar of its bucket."""
        exemplars.put(self._values, self._series.cell(exemplars.FAMILY, self._labels), trace_id, seconds)

    def add_times(self, call: Call, attempt: Attempt) -> None:
        """Observe time to first token, time per token and overhead.

        Overhead is observed only for calls with one attempt, because the pauses between attempts are intended.
        """
        if self._overhead < 0:
            cell, labels = self._series.cell, self._labels
            self._overhead = cell("overhead", labels)
            if self._stream:
                self._first_token, self._per_token = cell("first_token", labels), cell("per_token", labels)
        values, first, end = self._values, call.first_byte_at, attempt.ended_at
        overhead = attempt.sent_at - call.read_at - attempt.queue_s
        if call.pauses:
            overhead -= sum([seconds for _, seconds in call.pauses])
        if self._stream:
            _observe(values, self._first_token, _FIRST_TOKEN, first - call.started)
            usage = attempt.usage
            if end > first and usage is not None and usage.completion_tokens > 1:
                _observe(values, self._per_token, _PER_TOKEN, (end - first) / (usage.completion_tokens - 1))
        elif end:
            overhead += first - end
        if end and len(call.attempts) == 1:
            _observe(values, self._overhead, _OVERHEAD, overhead if overhead > 0 else 0.0)

    def add_usage(self, attempt: Attempt, usage: Usage) -> None:
        """Add tokens and cost."""
        if self._input < 0:
            self._look_up_usage_cells(attempt)
        values, prompt, output = self._values, usage.prompt_tokens, usage.completion_tokens
        if not (0 <= prompt <= MAX_PLAUSIBLE_TOKENS and 0 <= output <= MAX_PLAUSIBLE_TOKENS):
            prompt, output = plausible_tokens(prompt), plausible_tokens(output)
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
            self._add_cached_and_reasoning(usage)
        if attempt.cost:
            self._add_cost(attempt.cost)
        elif attempt.cost is None:
            values[self._series.cell("lockgate_unpriced_usages", self._labels[:2])] += 1

    def _look_up_usage_cells(self, attempt: Attempt) -> None:
        cell, both, owner = self._series.cell, self._labels[:2], self._owner
        labels = (self._names.upstream_model(attempt.target), *self._labels[3:5])
        self._input, self._output = cell("usage", (*labels, "input")), cell("usage", (*labels, "output"))
        self._prompt_tokens = cell("lockgate_tokens", (*both, "prompt", self._source))
        self._output_tokens = cell("lockgate_tokens", (*both, "output", self._source))
        if owner:
            self._key_prompt = cell("lockgate_key_tokens", (*owner, "prompt"))
            self._key_output = cell("lockgate_key_tokens", (*owner, "output"))

    def _add_cached_and_reasoning(self, usage: Usage) -> None:
        both, values = self._labels[:2], self._values
        if self._cached < 0:
            self._cached = self._series.cell("lockgate_tokens", (*both, "cached", self._source))
            self._reasoning = self._series.cell("lockgate_tokens", (*both, "reasoning", self._source))
        values[self._cached] += plausible_tokens(usage.cached_tokens)
        values[self._reasoning] += plausible_tokens(usage.reasoning_tokens)

    def _add_cost(self, cost: int) -> None:
        if self._cost < 0:
            self._cost = self._series.cell("lockgate_cost_usd", self._labels[:2])
            self._key_cost = self._series.cell("lockgate_key_cost_usd", self._owner) if self._owner else -1
        values = self._values
        values[self._cost] = min(values[self._cost] + cost, MAX_COST_NANO)
        if self._key_cost >= 0:
            values[self._key_cost] = min(values[self._key_cost] + cost, MAX_COST_NANO)

    def add_attempts(self, call: Call) -> None:
        """Observe the duration of each attempt, and its wait in the queue."""
        for attempt in call.attempts:
            name = attempt.target.shared_name or attempt.target.name
            kind = (name, attempt.outcome)
            cell = self._attempts.get(kind)
            if cell is None:
                cell = self._attempt_cell(name, attempt.outcome)
                if len(self._attempts) < MAX_CODES:
                    self._attempts[kind] = cell
            _observe(self._values, cell, _ATTEMPT, attempt.ms / 1000)
            if attempt.queue_s:
                label = self._names.target_named(name)
                _observe(self._values, self._series.cell("queue", (label,)), _QUEUE, attempt.queue_s)

    def _attempt_cell(self, target: str, outcome: str) -> int:
        provider, _, model = self._names.target_named(target).partition("/")
        error = "" if outcome == "ok" else f"{outcome[0]}xx" if outcome.isdecimal() else outcome
        return self._series.cell("attempt", (model or OTHER, self._names.system(provider), self._labels[4], error))


def plausible_tokens(tokens: int) -> int:
    """Return `tokens` if one answer can have that many, else 0."""
    return tokens if 0 <= tokens <= MAX_PLAUSIBLE_TOKENS else 0
