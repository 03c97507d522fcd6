"""The route of a model: a list is an order, a mapping is a split, a name is a target or another model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Literal

import msgspec

import providers as registry
from gateway.config.problem import Problems, join, shorten, suggest
from gateway.config.provider import ProviderConfig
from gateway.config.yamlfile import Mapping, Node, Place, Scalar, Sequence

Balance = Literal["weighted", "latency", "least_busy", "cost", "session", "prefix"]
"""Strategies by which a split selects a target (gateway.routing.balance)."""

MAX_MODEL_DEPTH = 16
MAX_TARGETS = 1000
DEFAULT_MAX_ATTEMPTS = 3
"""Maximum number of attempts for one call if `attempts` is not set."""


class Ref(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A target (`provider` and the model's name there), or another model in the file (`provider` is None)."""

    provider: str | None
    model: str
    replica: str = ""
    """The address of one replica of the provider, if its replicas are targets of their own."""

    def __str__(self) -> str:
        name = self.model if self.provider is None else f"{self.provider}/{self.model}"
        return f"{name}@{self.replica}" if self.replica else name


class Split(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A choice of one target, by weight."""

    choices: tuple[tuple[Ref, float], ...]


class Order(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A sequence of targets: if one target fails, the next one is tried."""

    steps: tuple[Ref | Split, ...]


Route = Ref | Split | Order


def refs(route: Route) -> Iterator[Ref]:
    """Yield every target and model of a route, in order."""
    if isinstance(route, Ref):
        yield route
    elif isinstance(route, Split):
        yield from (ref for ref, _ in route.choices)
    else:
        for step in route.steps:
            yield from refs(step)


class Mention(msgspec.Struct, frozen=True, gc=False):
    """A target or model in the file, and where it is written."""

    ref: Ref
    node: Scalar
    path: str

    @property
    def place(self) -> Place:
        """The place in the file."""
        return self.node.place

    @property
    def written(self) -> str:
        """The text in the file, for messages."""
        return shorten(self.node.text)


class RouteReader:
    """Reads the routes of all models, then checks that the file has their providers and models, and that there are no cycles."""

    def __init__(self, problems: Problems, text: Callable[[Scalar, str], str | None]) -> None:
        self._problems = problems
        self._text = text
        self._mentions: dict[str, list[Mention]] = {}
        self._mirrors: dict[str, Mention] = {}

    def read(self, node: Node, path: str, model: str) -> Route | None:
        """Return the route of `model` without its invalid parts, or None if it is not a route."""
        mentions = self._mentions.setdefault(model, [])
        if isinstance(node, Sequence):
            steps = [self._step(item, f"{path}[{index}]", mentions) for index, item in enumerate(node.items)]
            if not steps:
                self._problems.add(node.place, path, "an order needs at least one target")
            return Order(tuple(step for step in steps if step is not None))
        return self._step(node, path, mentions)

    def read_mirror(self, node: Node, path: str, *, model: str) -> Ref | None:
        """Return the target of a model's mirror, or None if it is invalid."""
        if not isinstance(node, Scalar) or node.null:
            self._problems.add(node.place, path, "expected one target such as openai/gpt-4o, or another model's name")
            return None
        mentions: list[Mention] = []
        text = self._text(node, path)
        ref = None if text is None else self._ref(text, node, path, mentions)
        if mentions:
            self._mirrors[model] = mentions[0]
        return ref

    def _step(self, node: Node, path: str, mentions: list[Mention]) -> Ref | Split | None:
        if isinstance(node, Sequence):
            self._problems.add(
                node.place,
                path,
                "a list inside a list: write an order as one list, and a split as a mapping of targets to weights",
            )
            return None
        if isinstance(node, Mapping):
            return self._split(node, path, mentions)
        if node.null:
            self._problems.add(
                node.place, path, "expected a target such as openai/gpt-4o, or another model's name; got nothing"
            )
            return None
        text = self._text(node, path)
        return None if text is None else self._ref(text, node, path, mentions)

    def _split(self, node: Mapping, path: str, mentions: list[Mention]) -> Split | None:
        for key, place, line in node.repeated:
            self._problems.add(place, join(path, key), f"duplicate key, already set on line {line}: remove one of them")
        choices: list[tuple[Ref, float]] = []
        for key, entry in node.entries.items():
            ref = self._ref(key, Scalar(entry.place, key, plain=True, null=False), join(path, key), mentions)
            weight = self._weight(entry.value, join(path, key))
            if ref is not None and weight is not None:
                choices.append((ref, weight))
        if not node.entries:
            self._problems.add(node.place, path, "a split needs at least one target")
        elif len(choices) == len(node.entries) and not any(weight for _, weight in choices):
            self._problems.add(node.place, path, "every weight is 0: give at least one target a weight")
        return Split(tuple(choices))

    def _weight(self, node: Node, path: str) -> float | None:
        text = self._text(node, path) if isinstance(node, Scalar) and not node.null else ""
        if text is None:
            return None
        try:
            weight = float(text) if text[:1].isdigit() and "_" not in text else -1.0
        except ValueError:
            weight = -1.0
        if not isfinite(weight) or not 0 <= weight <= 1e9:
            self._problems.add(
                node.place, path, "expected a weight, a number such as 3 (a mapping is a split by weight)"
            )
            return None
        return weight

    def _ref(self, text: str, node: Scalar, path: str, mentions: list[Mention]) -> Ref | None:
        provider, slash, model = text.partition("/")
        ref = Ref(provider, model) if slash else Ref(None, text)
        if not ref.model.strip() or provider != provider.strip() or (slash and not provider):
            self._problems.add(
                node.place, path, "expected PROVIDER/MODEL, for example openai/gpt-4o, or another model's name"
            )
            return None
        if slash and model.count("*") > 1:
            self._problems.add(node.place, path, "a target may have only one '*'")
            return None
        mentions.append(Mention(ref, node, path))
        return ref

    def check_names(self, providers: set[str], models: set[str]) -> None:
        """Report providers and models that are not in the file, misplaced `*`, cycles, and routes with too many models or targets."""
        for mentions in (*self._mentions.values(), self._mirrors.values()):
            for mention in mentions:
                self._check_name(mention, providers, models)
        self._check_patterns()
        self._check_reach()
        for model, mirror in self._mirrors.items():
            if mirror.ref.provider is None and model in self._reachable_models(mirror.ref.model):
                self._problems.add(
                    mirror.place,
                    mirror.path,
                    f"the mirror of {join('', model)} leads back to {join('', model)}: choose another target",
                )

    def check_models(self, settings: dict[str, ProviderConfig]) -> None:
        """Report models that do not fit the settings of their provider."""
        for mentions in (*self._mentions.values(), self._mirrors.values()):
            for mention in mentions:
                provider = settings.get(mention.ref.provider or "")
                if provider is None or "*" in mention.ref.model:
                    continue
                problem = registry.get(provider.type).model_problem(mention.ref.model, provider.options)
                if problem is not None:
                    self._problems.add(mention.place, mention.path, f"{mention.written}: {problem}")

    def _check_name(self, mention: Mention, providers: set[str], models: set[str]) -> None:
        ref = mention.ref
        if ref.provider is None and ref.model not in models:
            hint = suggest(ref.model, models, "models")
            if ref.model in providers:
                hint = f"; for a model of the provider write '{ref.model}/MODEL'"
            self._problems.add(mention.place, mention.path, f"no model {mention.written} in this file{hint}")
        elif ref.provider is not None and ref.provider not in providers:
            hint = suggest(ref.provider, providers, "providers")
            written = mention.written if "${" in mention.written else f"'{join('', ref.provider)}'"
            self._problems.add(mention.place, mention.path, f"no provider {written} in this file{hint}")

    def _check_patterns(self) -> None:
        """Report targets with `*` where no name from a caller can replace the `*`."""
        passing = {
            model for model, mentions in self._mentions.items() if any(each.ref.provider and "*" in each.ref.model for each in mentions)
        }
        for model, mentions in self._mentions.items():
            for mention in [*mentions, *([self._mirrors[model]] if model in self._mirrors else ())]:
                if mention.ref.provider is None and mention.ref.model in passing:
                    message = f"{mention.written} has targets with '*', so it needs the name from a caller: name a target here"
                    self._problems.add(mention.place, mention.path, message)
                elif "*" in mention.ref.model and mention.ref.provider and ("*" not in model or mention not in mentions):
                    message = "a target with '*' needs a model whose name ends with '*', such as \"gpt-*\": openai/gpt-*"
                    self._problems.add(mention.place, mention.path, message)

    def _reachable_models(self, model: str) -> set[str]:
        """Return the models to which a model leads, including itself."""
        reachable: set[str] = set()
        waiting = [model]
        while waiting:
            name = waiting.pop()
            if name not in reachable:
                reachable.add(name)
                waiting += [
                    mention.ref.model for mention in self._mentions.get(name, ()) if mention.ref.provider is None
                ]
        return reachable

    def _check_reach(self) -> None:
        """Report cycles, and models that lead through too many models or to too many targets."""
        reach: dict[str, tuple[int, int]] = {}
        for model in self._mentions:
            self._walk(model, (), reach)

    def _walk(self, model: str, above: tuple[str, ...], reach: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Return the number of models on the longest path from `model`, and the number of its targets.

        After a route with too many models or targets is reported, both numbers are counted from 1 again.
        """
        if model in reach:
            return reach[model]
        trail = (*above, model)
        depth, targets = 1, 0
        for mention in self._mentions[model]:
            name = mention.ref.model
            if mention.ref.provider is not None or name not in self._mentions:
                targets += 1
            elif name in trail:
                cycle = " -> ".join([*trail[trail.index(name) :], name])
                self._problems.add(mention.place, mention.path, f"models form a cycle: {join('', cycle)}")
            else:
                below = self._walk(name, trail, reach) if len(trail) < MAX_MODEL_DEPTH else (MAX_MODEL_DEPTH, 1)
                depth, targets = max(depth, below[0] + 1), targets + below[1]
                if depth > MAX_MODEL_DEPTH or targets > MAX_TARGETS:
                    too_deep = f"the route leads through more than {MAX_MODEL_DEPTH} models: remove some of them"
                    message = too_deep if depth > MAX_MODEL_DEPTH else f"the route leads to more than {MAX_TARGETS} targets: remove some"
                    self._problems.add(mention.place, mention.path, message)
                    depth, targets = 1, 1
        reach[model] = depth, targets
        return reach[model]
