"""Rules for embeddings: the inputs of one request, the encoding of vectors, and their length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from providers.base import Adjustment, Body
from providers.embedding_table import EmbeddingRow
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.values import EnforcedLocally

INPUT_NAMES = ("input", "texts")
"""Names of the inputs in an adapted body; the second is Cohere's."""


def is_token_array(value: Any) -> bool:
    """Return whether an input is one array of token ids."""
    return type(value) is list and bool(value) and type(value[0]) is int


class Inputs(Rule, frozen=True):
    """Sends lists of inputs that exceed a maximum of the provider in several requests."""

    row: EmbeddingRow

    def apply(self, work: Work) -> None:
        """Report the number of inputs of each request if one request is not enough. Raise Refusal for token ids that cannot be sent."""
        row, value = self.row, work.body.get(self.param)
        is_flat = is_token_array(value)
        has_tokens = is_flat or (type(value) is list and is_token_array(value[0]))
        if has_tokens and row.max_token_arrays == 0:
            raise work.refuse(self.param, "it must be text, not token ids", "unsupported_content")
        if is_flat and row.max_flat_tokens is not None and len(value) > row.max_flat_tokens:
            value = [value]
            work.body.set(self.param, value)
            work.report(self.param, "reshape", why=f"an array of more than {row.max_flat_tokens} tokens is sent inside a list")
        elif is_flat or type(value) is str:
            return
        most = row.max_token_arrays if has_tokens and row.max_token_arrays is not None else row.max_inputs
        sizes = list(_batch_sizes(value, most, row.max_tokens))
        if len(sizes) > 1:
            limits = [f"{most} inputs"] if most is not None else []
            limits += [f"{row.max_tokens} tokens"] if row.max_tokens is not None else []
            why = f"a request has at most {' and '.join(limits)}; answers are merged in order, and usage is added up"
            work.report(self.param, "fan_out", from_=len(value), to=sizes, why=why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"}}


def _batch_sizes(inputs: Sequence[str | list[int]], most: int | None, max_tokens: int | None) -> Iterator[int]:
    """Yield the number of inputs of each request. A token has at least one byte, so texts are bounded by their bytes."""
    size = total = 0
    for each in inputs:
        tokens = 0
        if max_tokens is not None:
            tokens = len(each) if type(each) is list else len(each.encode("utf-8", "surrogatepass"))  # type: ignore[union-attr]
        if size and (size == most or (max_tokens is not None and total + tokens > max_tokens)):
            yield size
            size = total = 0
        size, total = size + 1, total + tokens
    if size:
        yield size


def batches(body: Body, sizes: Sequence[int]) -> list[Body]:
    """Return the bodies of the requests for an adapted body, whose inputs are split into parts of these sizes."""
    name = next(name for name in INPUT_NAMES if name in body)
    inputs, bodies, start = body.get(name), [], 0
    for size in sizes:
        part = body.copy()
        part.set(name, inputs[start : start + size])
        bodies.append(part)
        start += size
    return bodies


def input_count(body: Body) -> int:
    """Return the number of inputs of an adapted body."""
    value = next(body.get(name) for name in INPUT_NAMES if name in body)
    return len(value) if type(value) is list and not is_token_array(value) else 1


def batch_sizes(adjustments: Sequence[Adjustment]) -> Sequence[int] | None:
    """Return the number of inputs of each request, or None if one request is enough."""
    for adjustment in adjustments:
        if adjustment.action == "fan_out" and type(adjustment.to) is list:
            return adjustment.to
    return None


class Encoding(Rule, frozen=True):
    """The encoding of vectors. The gateway converts the vectors if the provider lacks the requested encoding."""

    formats: tuple[str, ...]

    def apply(self, work: Work) -> None:
        """Remove an encoding that the provider lacks."""
        value = work.body.get(self.param)
        if value in self.formats:
            return
        work.body.pop(self.param)
        if value == "float" or value is None:
            work.report(self.param, "drop", why="neutral value")
        else:
            work.report(self.param, "enforce_locally", from_=value, why="the gateway converts the vectors")


class Dimensions(Rule, frozen=True):
    """The length of vectors.

    The parameter is refused if the provider cannot honour it, because vectors of another length would be useless.
    """

    row: EmbeddingRow
    model: str

    def apply(self, work: Work) -> None:
        """Rename the parameter if its name differs upstream, or raise Refusal if the provider cannot honour the value."""
        value, row = work.body.get(self.param), self.row
        if value is None:
            return
        if row.dimensions is None or self.model.startswith(row.fixed_models):
            raise work.refuse(self.param, "the length of the vectors is fixed", "unsupported_parameter")
        if row.dimension_values and value not in row.dimension_values:
            raise work.refuse(self.param, f"must be one of {', '.join(map(str, row.dimension_values))}")
        if row.dimensions != self.param:
            work.body.rename(self.param, row.dimensions)
            work.report(self.param, "rename", to=row.dimensions)


def embedding_rules(row: EmbeddingRow, model: str) -> tuple[Rule, ...]:
    """Return the rules for embeddings that follow from a row."""
    accepts = f"model {row.accepts}" + (f" {row.dimensions}" if row.dimensions not in (None, "dimensions") else "")
    return (
        Accepts(accepts.strip()),
        Inputs("input", row),
        Encoding("encoding_format", row.formats),
        Dimensions("dimensions", row, model),
        EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
    )
