"""The router: resolves a model name to an ordered list of candidates.

A route is one target or model name, a list of routes (an order) or a mapping of names to weights (a split). Names may be patterns
(`gpt-*`), and routes may lead through other models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, assert_never

import msgspec

from gateway.config.model import ModelConfig
from gateway.config.route import Order, Ref, Route, Split
from gateway.keys.virtual_key import may_use
from gateway.routing import balance
from gateway.routing.discovered import DiscoveredModels
from gateway.routing.load import attempts_in_flight, expected_wait, load_at_servers
from gateway.routing.passed_names import model_for_name, passes_names
from gateway.routing.pattern_index import PatternIndex
from gateway.routing.prefix_table import PrefixTable
from gateway.routing.settings import merge_deadlines, merge_settings
from gateway.routing.unknown_model import unknown_model
from gateway.targets.candidate import Candidate, Model

if TYPE_CHECKING:
    from gateway.errors import NotFound
    from gateway.keys.virtual_key import VirtualKey
    from gateway.routing.route_query import RouteQuery
    from gateway.targets.backend import Backend, BackendOf

DEFAULT_SESSION_HEADER = "x-session-id"


class SplitOption(msgspec.Struct, frozen=True, eq=False):
    """One option of a split: its route and its weight."""

    ref: Ref
    name: str
    weight: float
    candidates: tuple[Candidate, ...]
    """All candidates that the option can lead to."""
    first_candidates: tuple[Candidate, ...]
    """The candidates that the option may try first."""
    some_require_parameters: bool
    """Whether `require_parameters` is set for any candidate."""

    def accepts(self, query: RouteQuery) -> bool:
        """Return whether at least one candidate accepts the call."""
        return any(query.is_accepted_by(candidate) for candidate in self.candidates)


class Router:
    """The models of one configuration and their routes."""

    def __init__(
        self,
        models: Mapping[str, Model],
        backend_of: BackendOf,
        *,
        expose_targets: bool = False,
        providers: frozenset[str] = frozenset(),
        draw: Callable[[], float] = random.random,
        is_live: Callable[[str], bool] = lambda target: True,
    ) -> None:
        """`backend_of` maps (provider, model, replica) to a backend. `draw` returns a number in [0, 1).

        Splits choose with `draw` and skip targets for which `is_live` returns False.
        """
        self._models = models
        self._passing = frozenset(name for name, model in models.items() if name.endswith("*") and passes_names(model.route))
        """The patterns whose targets contain the caller's name, or a part of it."""
        self._patterns = PatternIndex(models)
        self._backend_of = backend_of
        self._providers = providers if expose_targets else frozenset()
        self._draw = draw
        self._is_live = is_live
        self._discovered = DiscoveredModels()
        self._has_cost_split = any(model.settings.balance == "cost" for model in models.values())
        # Caches: routes without a split, candidates by target and path, options by split and path.
        self._fixed: dict[str, tuple[list[Candidate], bool]] = {}
        self._candidates: dict[tuple[str, ...], Candidate] = {}
        self._options: dict[tuple[int, tuple[str, ...]], list[SplitOption]] = {}
        self._prefixes = PrefixTable()
        self._replicas: Mapping[str, tuple[str, ...]] = {}
        self._replica_splits: dict[tuple[str, str], Split] = {}

    def assuming_live(self, is_live: Callable[[str], bool]) -> Router:
        """Return a router with the same routes that treats a target as live if `is_live` returns True for its name."""
        router = copy(self)
        router._is_live = is_live
        return router

    def for_dry_runs(self) -> Router:
        """Return a router with the same routes whose choices do not affect this one."""
        router = copy(self)
        router._prefixes = PrefixTable()
        return router

    @property
    def discovered(self) -> DiscoveredModels:
        """The models that providers list."""
        return self._discovered

    @discovered.setter
    def discovered(self, models: DiscoveredModels) -> None:
        self._discovered = models
        self._fixed, self._candidates = {}, {}  # new caches, because a dry run that has begun still uses the old ones

    @property
    def replicas(self) -> Mapping[str, tuple[str, ...]]:
        """The addresses of the replicas of each provider that has replicas."""
        return self._replicas

    @replicas.setter
    def replicas(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        self._replicas = addresses
        self._fixed, self._candidates, self._options, self._replica_splits = {}, {}, {}, {}  # new ones, as above

    def names(self) -> list[str]:
        """Return the names of the models that can be listed: all names without a wildcard."""
        return [*(name for name in self._models if "*" not in name), *self._discovered.models]

    def find(self, name: str, key: VirtualKey | None = None) -> Model:
        """Return the model for `name`. Raise NotFound if there is none, or Unavailable if an unread list may contain it.

        The error lists only models that the key may use. The model itself is returned even if the key may not use it.

        The lookup order is: the exact name, the longest matching prefix (`gpt-*`), a model that a provider lists, an exposed
        target, the pattern `*`.
        """
        model = self._models.get(name)
        if model is not None and "*" not in name:
            return model
        if not name.isprintable():  # the name could become part of a target's name, which is sent in headers
            raise self._unknown(name, key)
        pattern = self._patterns.longest_match(name)
        if pattern in (None, "*") and (listed := self._discovered.find(name)) is not None:
            return listed
        provider, slash, _ = name.partition("/")
        if pattern in (None, "*") and slash and provider in self._providers:  # `*` alone would hide every exposed target
            ref = Ref(provider, name[len(provider) + 1 :])
            return Model(name, ref, ModelConfig(name=name, targets=ref))
        if pattern is not None:
            model = self._models[pattern]
            return model_for_name(model, name) if pattern in self._passing else model
        self._discovered.check_unread(name)
        raise self._unknown(name, key)

    def _unknown(self, name: str, key: VirtualKey | None) -> NotFound:
        return unknown_model(name, [known for known in self.names() if may_use(key, known)])

    def model_named(self, name: str) -> Model:
        """Return the model that a route refers to by name."""
        return self._models[name]

    def candidates(self, model: Model, query: RouteQuery | None = None) -> list[Candidate]:
        """Return the candidates in the order in which to try them. Raise BadRequest if none accepts parameters that are required."""
        fixed = self._fixed.get(model.name) if model.name not in self._passing else None
        if fixed is not None:
            candidates, some_require = fixed
        else:
            candidates = []
            has_split = self._collect(model.route, (model,), candidates, query)
            candidates = _unique(candidates) if has_split else candidates
            some_require = any(candidate.settings.require_parameters for candidate in candidates)
            if not has_split and self._is_cacheable((model,)):
                self._fixed[model.name] = candidates, some_require
        if query is not None and (some_require or query.requires_all_parameters):
            candidates = [candidate for candidate in candidates if query.is_accepted_by(candidate)]
            if not candidates:
                raise query.no_target_error()
        return candidates

    def candidates_of(self, ref: Ref, query: RouteQuery | None = None) -> list[Candidate]:
        """Return the candidates of a name that is not part of a route, such as the target of a mirror."""
        candidates: list[Candidate] = []
        self._collect(ref, (), candidates, query)
        return candidates

    def alternates(self, model: Model, query: RouteQuery) -> list[Candidate]:
        """Return all candidates that accept the call, also those of split options that were not chosen, unless the weight is zero."""
        candidates = _unique(self.candidates_behind(model.route, (model,), weighted=True))
        return [candidate for candidate in candidates if query.is_accepted_by(candidate)]

    def all_candidates(self, model: Model) -> list[Candidate]:
        """Return every candidate on the routes of the model, including split options with weight zero."""
        return _unique(self.candidates_behind(model.route, (model,)))

    def compares_costs(self, model: Model) -> bool:
        """Return whether a split on the routes of the model is balanced by cost."""
        return self._has_cost_split and self._compares_costs(model.route, model)

    def _compares_costs(self, route: Route, model: Model) -> bool:
        if isinstance(route, Order):
            return any(self._compares_costs(step, model) for step in route.steps)
        if isinstance(route, Split):
            return model.settings.balance == "cost" or any(self._compares_costs(ref, model) for ref, _ in route.choices)
        inner = self._models[route.model] if route.provider is None else None
        return inner is not None and self._compares_costs(inner.route, inner)

    def candidates_behind(
        self, route: Route, path: tuple[Model, ...], *, first: bool = False, weighted: bool = False
    ) -> list[Candidate]:
        """Return the candidates that `route` leads to after the models of `path`.

        `first`: only those that may be tried first. `weighted`: only those with a weight other than zero in their
        split.
        """
        if isinstance(route, Order):
            steps = route.steps[: 1 if first else None]
            return [c for step in steps for c in self.candidates_behind(step, path, first=first, weighted=weighted)]
        if isinstance(route, Split):
            refs = [ref for ref, weight in route.choices if weight or not weighted]
            return [c for ref in refs for c in self.candidates_behind(ref, path, first=first, weighted=weighted)]
        if route.provider is None:
            model = self._models[route.model]
            return self.candidates_behind(model.route, (*path, model), first=first, weighted=weighted)
        return [self._candidate(ref, path) for ref in self._targets_of(route)]

    def _collect(self, route: Route, path: tuple[Model, ...], candidates: list[Candidate], query: RouteQuery | None) -> bool:
        """Append the candidates that `route` leads to, with one option of each split. Return whether the route has a split."""
        if isinstance(route, Order):
            has_split = [self._collect(step, path, candidates, query) for step in route.steps]
            return any(has_split)
        if isinstance(route, Split):
            self._collect(self._draw_from(route, path, query), path, candidates, query)
            return True
        if route.provider is None:
            model = self._models[route.model]
            return self._collect(model.route, (*path, model), candidates, query)
        if route.provider in self._replicas and not route.replica:
            self._collect(self._draw_from(self._replica_split(route, path), path, query), path, candidates, query)
            return True
        candidates.append(self._candidate(route, path))
        return False

    def _targets_of(self, ref: Ref) -> list[Ref]:
        """Return the target `ref`, or its replicas if its provider has replicas."""
        addresses = self._replicas.get(ref.provider or "", ()) if not ref.replica else ()
        return [Ref(ref.provider, ref.model, address) for address in addresses] or [ref]

    def _replica_split(self, ref: Ref, path: tuple[Model, ...]) -> Split:
        """Return the split with all replicas of a target. They have the same weight."""
        key = (ref.provider or "", ref.model)
        split = self._replica_splits.get(key)
        if split is None:
            split = Split(tuple((each, 1.0) for each in self._targets_of(ref)))
            if self._is_cacheable(path):
                self._replica_splits[key] = split
        return split

    def _candidate(self, ref: Ref, path: tuple[Model, ...]) -> Candidate:
        """Return the candidate of a target that is reached through the models of `path`."""
        provider = ref.provider or ""
        key = (provider, ref.model, ref.replica, *[each.name for each in path])
        candidate = self._candidates.get(key)
        if candidate is None:
            backend = self._backend_of(provider, ref.model, ref.replica) if ref.replica else self._backend_of(provider, ref.model)
            candidate = _new_candidate(backend, path)
            if self._is_cacheable(path):
                self._candidates[key] = candidate
        return candidate

    def _is_cacheable(self, path: tuple[Model, ...]) -> bool:
        """Return whether the path has only known names. Names that callers make up would fill the cache."""
        listed = self._discovered.models
        return all(each.name not in self._passing and (each.name in self._models or each.name in listed) for each in path)

    def options(self, split: Split, path: tuple[Model, ...]) -> list[SplitOption]:
        """Return those options of a split that have a weight other than zero."""
        key = (id(split), tuple([model.name for model in path]))
        options = self._options.get(key)
        if options is None or not self._is_cacheable(path):
            options = [self._option(ref, weight, path) for ref, weight in split.choices if weight]
            if self._is_cacheable(path):
                self._options[key] = options
        return options

    def _option(self, ref: Ref, weight: float, path: tuple[Model, ...]) -> SplitOption:
        candidates = self.candidates_behind(ref, path, weighted=True)
        first = self.candidates_behind(ref, path, first=True, weighted=True)
        some_require = any(candidate.settings.require_parameters for candidate in candidates)
        return SplitOption(ref, str(ref), weight, tuple(candidates), tuple(first), some_require)

    def _draw_from(self, split: Split, path: tuple[Model, ...], query: RouteQuery | None) -> Ref:
        options = self.options(split, path)
        settings = path[-1].settings if path else ModelConfig(name="", targets=split)
        is_selective = query is not None and (query.requires_all_parameters or query.needs_native)
        if query is not None and (is_selective or any(option.some_require_parameters for option in options)):
            options = [option for option in options if option.accepts(query)] or options
        live = [option for option in options if self._has_live_start(option)]
        if live and len(live) < len(options):
            if query is not None and self._balance(options, settings, query) not in live:
                query.note_diversion()
            options = live
        option = self._balance(options, settings, query)
        if query is not None:
            query.is_drawn = True
            if settings.balance == "prefix":
                self._prefixes.record(option.name, query.prompt_blocks)
        return option.ref

    def _has_live_start(self, option: SplitOption) -> bool:
        return any(self._is_live(candidate.backend.target.name) for candidate in option.first_candidates)

    def _balance(self, options: list[SplitOption], settings: ModelConfig, query: RouteQuery | None) -> SplitOption:
        """Choose one option by the model's `balance`."""
        policy = settings.balance
        if policy is None or policy == "weighted" or query is None or len(options) == 1:
            return balance.by_weight(options, self._draw)
        if policy == "session":
            return balance.by_session(options, query.session(settings.session_header or DEFAULT_SESSION_HEADER))
        if policy == "prefix" and (blocks := query.prompt_blocks):
            matched = partial(self._prefixes.matched, blocks=blocks)
            return balance.by_prefix(options, blocks, lambda option: matched(option.name), load_at_servers(options))
        if policy == "least_busy" or policy == "prefix":  # a short prompt is not worth a place in a cache
            return balance.of_two(options, self._draw, lambda option: attempts_in_flight(option) / option.weight)
        if policy == "latency":
            return balance.of_two(options, self._draw, lambda option: expected_wait(option, stream=query.stream))
        if policy == "cost":
            return balance.cheapest(options, self._draw, lambda option: self.expected_cost(option, query))
        assert_never(policy)

    def expected_cost(self, option: SplitOption, query: RouteQuery) -> float:
        """Return the maximum cost of the call, in nano-dollars, at the cheapest candidate that the option may try first."""
        return min(query.cost(candidate.backend.target, candidate.backend.price) for candidate in option.first_candidates)


def _unique(candidates: list[Candidate]) -> list[Candidate]:
    """Keep the first candidate of each target."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.backend.target.name, candidate)
    return list(first.values())


def _new_candidate(backend: Backend, path: tuple[Model, ...]) -> Candidate:
    settings = merge_settings([model.settings for model in path])
    if settings.hedge is not None and settings.hedge.after.share is not None:
        backend.latency.keep_quantiles()
    hedge_model = next((model.name for model in path if model.settings.hedge is not None), "")
    return Candidate(backend, merge_deadlines(settings, backend.deadlines), settings, hedge_model)
