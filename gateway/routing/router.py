"""A model name becomes an order of targets: one name, wildcards, lists as orders, mappings as splits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config.route import DEFAULT_MAX_ATTEMPTS, Order, Ref, Route, Split
from gateway.config.types import matching_wildcard
from gateway.errors import NotFound
from gateway.routing import balance
from gateway.targets.backend import Backend, Candidate, Hedge, Model
from gateway.upstream.transport import Deadlines

if TYPE_CHECKING:
    from gateway.config.types import ContextConfig, ModelConfig
    from gateway.routing.route_query import RouteQuery


SESSION_HEADER = "x-session-id"
"""What names a conversation where `balance: session` says nothing else."""


class SplitOption(msgspec.Struct, frozen=True, eq=False):
    """One choice of a split: its share, the choices that a call may go to through it, and those of them that it tries first."""

    ref: Ref
    name: str
    weight: float
    candidates: tuple[Candidate, ...]
    first_candidates: tuple[Candidate, ...]
    has_required_parameters: bool
    """Some target behind it is not for every call."""

    def can_honour_all(self, asking: RouteQuery) -> bool:
        """Whether some target behind it takes the call without a loss, where that is asked for."""
        return any(not (asking.requires_all_parameters or one.require) or asking.honours_all(one.backend.target) for one in self.candidates)


class Router:
    """The models of one configuration."""

    def __init__(
        self,
        models: Mapping[str, Model],
        place: Callable[[str, str], Backend],
        *,
        expose_targets: bool = False,
        providers: frozenset[str] = frozenset(),
        draw: Callable[[], float] = random.random,
        is_live: Callable[[str], bool] = lambda target: True,
    ) -> None:
        """`place` gives the place of (provider, model); `draw` a number from 0 to 1 for splits, which pass over what is not live."""
        self._models = models
        self._place = place
        self._providers = providers if expose_targets else frozenset()
        self._draw = draw
        self._is_live = is_live
        self._fixed: dict[str, tuple[list[Candidate], bool]] = {}
        self._choices: dict[tuple[str, ...], Candidate] = {}
        self._candidates: dict[tuple[int, tuple[str, ...]], list[SplitOption]] = {}

    def assuming_live(self, is_live: Callable[[str], bool]) -> Router:
        """The same routes, drawn as if these targets were live."""
        found = copy(self)
        found._is_live = is_live
        return found

    def names(self) -> list[str]:
        """The models that can be listed: every name without a wildcard."""
        return [name for name in self._models if "*" not in name]

    def find(self, name: str) -> Model:
        """The model that serves `name`: itself, the longest `prefix*` that fits, an exposed target, "*". NotFound otherwise."""
        model = self._models.get(name)
        if model is not None and "*" not in name:
            return model
        if not name.isprintable():  # it could become part of a target's name, which is said in headers
            raise unknown_model(name, self.names())
        pattern = matching_wildcard(name, self._models)
        provider, slash, _ = name.partition("/")
        if pattern in (None, "*") and slash and provider in self._providers:  # "anything else" would hide every target otherwise
            return Model(name, Ref(provider, name[len(provider) + 1 :]), _no_settings())
        if pattern is not None:
            return self._models[pattern]
        raise unknown_model(name, self.names())

    def model_named(self, name: str) -> Model:
        """The model that a route names."""
        return self._models[name]

    def candidates(self, model: Model, asking: RouteQuery | None = None) -> list[Candidate]:
        """The places to try, in order. A route without a split is worked out once. BadRequest when a loss rules all of them out."""
        fixed = self._fixed.get(model.name)
        if fixed is not None:
            found, some_require = fixed
        else:
            found = []
            drawn = self._follow(model.route, (model,), found, asking)
            found = _each_once(found) if drawn else found
            some_require = any(one.require for one in found)
            if not drawn and model.name in self._models:
                self._fixed[model.name] = found, some_require
        if asking is not None and (some_require or asking.requires_all_parameters):
            found = [one for one in found if not (asking.requires_all_parameters or one.require) or asking.honours_all(one.backend.target)]
            if not found:
                raise asking.no_target_error()
        return found

    def candidates_of(self, ref: Ref, asking: RouteQuery | None = None) -> list[Candidate]:
        """The places behind a name that stands alone, as of a mirror."""
        found: list[Candidate] = []
        self._follow(ref, (), found, asking)
        return found

    def alternates(self, model: Model, asking: RouteQuery) -> list[Candidate]:
        """Every place of the model that may take this call: who was not drawn in a split stands in for who fails."""
        found = _each_once(self.candidates_behind(model.route, (model,), weighted=True))
        return [one for one in found if not (asking.requires_all_parameters or one.require) or asking.honours_all(one.backend.target)]

    def all_candidates(self, model: Model) -> list[Candidate]:
        """Every place that a call for the model can go to, whatever chance says."""
        return _each_once(self.candidates_behind(model.route, (model,)))

    def candidates_behind(self, route: Route, path: tuple[Model, ...], *, first: bool = False, weighted: bool = False) -> list[Candidate]:
        """Every choice that `route` leads to: those that it may try `first`, those that have a weight in their split, or all."""
        if isinstance(route, Order):
            steps = route.steps[: 1 if first else None]
            return [one for step in steps for one in self.candidates_behind(step, path, first=first, weighted=weighted)]
        if isinstance(route, Split):
            refs = [ref for ref, weight in route.choices if weight or not weighted]
            return [one for ref in refs for one in self.candidates_behind(ref, path, first=first, weighted=weighted)]
        if route.provider is None:
            model = self._models[route.model]
            return self.candidates_behind(model.route, (*path, model), first=first, weighted=weighted)
        return [self._at(route.provider, route.model, path)]

    def _follow(self, route: Route, path: tuple[Model, ...], found: list[Candidate], asking: RouteQuery | None) -> bool:
        """Append what `route` leads to, one choice of each split; whether there was a split."""
        if isinstance(route, Order):
            drawn = [self._follow(step, path, found, asking) for step in route.steps]
            return any(drawn)
        if isinstance(route, Split):
            self._follow(self._pick(route, path, asking), path, found, asking)
            return True
        if route.provider is None:
            model = self._models[route.model]
            return self._follow(model.route, (*path, model), found, asking)
        found.append(self._at(route.provider, route.model, path))
        return False

    def _at(self, provider: str, model: str, path: tuple[Model, ...]) -> Candidate:
        """The choice of a target on the way through the models of `path`; worked out once for those of the file."""
        key = (provider, model, *[each.name for each in path])
        choice = self._choices.get(key)
        if choice is None:
            choice = _choice(self._place(provider, model), path)
            if all(each.name in self._models for each in path):  # callers make the others up
                self._choices[key] = choice
        return choice

    def options(self, split: Split, path: tuple[Model, ...]) -> list[SplitOption]:
        """The choices of a split that have a weight, on the way through the models of `path`; worked out once."""
        key = (id(split), tuple([model.name for model in path]))
        found = self._candidates.get(key)
        if found is None:
            found = self._candidates[key] = [self._candidate(ref, weight, path) for ref, weight in split.choices if weight]
        return found

    def _candidate(self, ref: Ref, weight: float, path: tuple[Model, ...]) -> SplitOption:
        possible = self.candidates_behind(ref, path, weighted=True)
        heads = self.candidates_behind(ref, path, first=True, weighted=True)
        return SplitOption(ref, str(ref), weight, tuple(possible), tuple(heads), any(one.require for one in possible))

    def _pick(self, split: Split, path: tuple[Model, ...], asking: RouteQuery | None) -> Ref:
        candidates = self.options(split, path)
        if asking is not None and (asking.requires_all_parameters or any(one.has_required_parameters for one in candidates)):
            candidates = [one for one in candidates if one.can_honour_all(asking)] or candidates
        live = [one for one in candidates if any(self._is_live(head.backend.target.name) for head in one.first_candidates)]
        candidates = live or candidates
        return self._chosen(candidates, path[-1].settings, asking).ref

    def _chosen(self, candidates: list[SplitOption], settings: ModelConfig, asking: RouteQuery | None) -> SplitOption:
        """One of a split's choices, as the model's `balance` says."""
        kind = settings.balance
        if kind is None or kind == "weighted" or asking is None or len(candidates) == 1:
            return balance.by_weight(candidates, self._draw)
        if kind == "session":
            return balance.by_session(candidates, asking.session(settings.session_header or SESSION_HEADER))
        if kind == "least_busy":
            return balance.of_two(candidates, self._draw, lambda one: attempts_in_flight(one) / one.weight)
        if kind == "latency":
            return balance.of_two(candidates, self._draw, lambda one: expected_wait(one, stream=asking.stream))
        return balance.cheapest(candidates, self._draw, lambda one: self.expected_cost(one, asking))

    def expected_cost(self, candidate: SplitOption, asking: RouteQuery) -> float:
        """Nano-dollars that the call may cost where the candidate leads first."""
        return min(asking.cost(choice.backend.target, choice.backend.price) for choice in candidate.first_candidates)


def attempts_in_flight(candidate: SplitOption) -> int:
    """Attempts under way where it leads first."""
    return sum(choice.backend.latency.in_flight for choice in candidate.first_candidates)


def expected_wait(candidate: SplitOption, *, stream: bool) -> float:
    """Seconds to a first token where it leads first: as lately, and longer for each attempt under way there."""
    return min(choice.backend.latency.expected_wait(stream=stream) for choice in candidate.first_candidates)


def _each_once(found: list[Candidate]) -> list[Candidate]:
    """The first of several choices with the same target."""
    first: dict[str, Candidate] = {}
    for choice in found:
        first.setdefault(choice.backend.target.name, choice)
    return list(first.values())


def _choice(place: Backend, path: tuple[Model, ...]) -> Candidate:
    """The settings nearest to the caller win: the model that was asked for, then those it leads through."""

    def first(name: str) -> float | None:
        return next((value for model in path if (value := getattr(model.settings, name)) is not None), None)

    base = place.deadlines
    deadlines = Deadlines(
        connect=base.connect,
        tls=base.tls,
        first_byte=first("first_byte_timeout") or base.first_byte,
        idle=first("idle_timeout") or base.idle,
        total=first("timeout") or base.total,
    )
    hedge = next((Hedge(model.name, model.settings.hedge) for model in path if model.settings.hedge is not None), None)
    if hedge is not None and hedge.settings.after.share is not None:
        place.latency.keep_quantiles()
    strict = any(bool(model.settings.strict) for model in path)
    context = _context([model.settings.context for model in path])
    return Candidate(
        place,
        deadlines,
        retries=int(first("retries") or 0),
        strict=strict,
        context=context,
        json_repair=bool(first("json_repair")),
        continue_on_cut=bool(first("continue_on_cut")),
        require=bool(first("require_parameters")),
        hedge=hedge,
        mirror=next((model.settings.mirror for model in path if model.settings.mirror is not None), None),
        attempts=int(first("attempts") or DEFAULT_MAX_ATTEMPTS),
    )


def _context(path: list[ContextConfig | None]) -> ContextConfig | None:
    """Each key from the settings nearest to the caller that have it; None where nobody says anything."""
    found: dict[str, Any] = {}
    for settings in path:
        for name, value in msgspec.structs.asdict(settings).items() if settings is not None else ():
            if value is not None:
                found.setdefault(name, value)
    if not found:
        return None
    from gateway.config.types import ContextConfig

    return ContextConfig(**found)


def _no_settings() -> ModelConfig:
    from gateway.config.types import ModelConfig

    return ModelConfig(name="", targets=Order(()))


def unknown_model(name: str, known: list[str]) -> NotFound:
    """404 in OpenAI's words, with the names that exist; the caller's name is cut and escaped."""
    shown = name[:80].encode("ascii", "backslashreplace").decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    names = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    message = f"The model '{shown}' does not exist at this gateway. It serves: {names or 'none'}."
    return NotFound(message, param="model", code="model_not_found")
