"""A model name becomes an order of targets: one name, wildcards, lists as orders, mappings as splits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config_route import Order, Ref, Route, Split
from gateway.config_types import wildcard
from gateway.errors import NotFound
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Target

if TYPE_CHECKING:
    from gateway.config_types import ContextConfig, ModelConfig
    from providers.local.distant import DistantEngine
    from providers.local.engine import Engine


class Place(msgspec.Struct, eq=False):
    """A target with the way to it: which pool, which transport. One Target for each credential, used in turn."""

    targets: tuple[Target, ...]
    origin: Origin
    transport: Transport
    deadlines: Deadlines
    engine: Engine | DistantEngine | None = None
    """The embedded engine behind it: it admits calls, and knows why one broke."""
    turn: int = 0

    @property
    def target(self) -> Target:
        """The target, with its first credential."""
        return self.targets[0]

    def next_target(self) -> Target:
        """The target, with the credential whose turn it is."""
        if len(self.targets) == 1:
            return self.targets[0]
        self.turn = (self.turn + 1) % len(self.targets)
        return self.targets[self.turn]


class Model(msgspec.Struct, frozen=True, eq=False):
    """What callers may ask for: its name in the YAML (perhaps a pattern), its route, its settings."""

    name: str
    route: Route
    settings: ModelConfig


class Choice(msgspec.Struct, frozen=True, eq=False):
    """One place to try, with the deadlines and retries of the model that led there."""

    place: Place
    deadlines: Deadlines
    retries: int
    strict: bool
    context: ContextConfig | None = None
    json_repair: bool = False


class Router:
    """The models of one configuration."""

    def __init__(
        self,
        models: Mapping[str, Model],
        place: Callable[[str, str], Place],
        *,
        expose_targets: bool = False,
        providers: frozenset[str] = frozenset(),
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`place` gives the place of (provider, model); `draw` a number from 0 to 1 for splits."""
        self._models = models
        self._place = place
        self._providers = providers if expose_targets else frozenset()
        self._draw = draw
        self._fixed: dict[str, list[Choice]] = {}

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
        pattern = wildcard(name, self._models)
        provider, slash, _ = name.partition("/")
        if pattern in (None, "*") and slash and provider in self._providers:  # "anything else" would hide every target otherwise
            return Model(name, Ref(provider, name[len(provider) + 1 :]), _no_settings())
        if pattern is not None:
            return self._models[pattern]
        raise unknown_model(name, self.names())

    def targets(self, model: Model) -> list[Choice]:
        """The places to try, in order. A route without a split is worked out once."""
        fixed = self._fixed.get(model.name)
        if fixed is not None:
            return fixed
        found: list[Choice] = []
        if self._follow(model.route, (model,), found):
            return _each_once(found)
        if model.name in self._models:
            self._fixed[model.name] = found
        return found

    def possible(self, model: Model) -> list[Choice]:
        """Every place that a call for the model can go to, whatever chance says."""
        found: list[Choice] = []
        self._follow(model.route, (model,), found, every=True)
        return _each_once(found)

    def _follow(self, route: Route, path: tuple[Model, ...], found: list[Choice], *, every: bool = False) -> bool:
        """Append what `route` leads to (`every` choice of a split, or a drawn one); whether there was a split."""
        if isinstance(route, Order):
            drawn = [self._follow(step, path, found, every=every) for step in route.steps]
            return any(drawn)
        if isinstance(route, Split):
            for ref in [ref for ref, _ in route.choices] if every else [self._pick(route)]:
                self._follow(ref, path, found, every=every)
            return True
        if route.provider is None:
            model = self._models[route.model]
            return self._follow(model.route, (*path, model), found, every=every)
        found.append(_choice(self._place(route.provider, route.model), path))
        return False

    def _pick(self, split: Split) -> Ref:
        at = self._draw() * sum(weight for _, weight in split.choices)
        for ref, weight in split.choices:
            at -= weight
            if at < 0:
                return ref
        return next(ref for ref, weight in reversed(split.choices) if weight)


def _each_once(found: list[Choice]) -> list[Choice]:
    """The first of several choices with the same target."""
    first: dict[str, Choice] = {}
    for choice in found:
        first.setdefault(choice.place.target.name, choice)
    return list(first.values())


def _choice(place: Place, path: tuple[Model, ...]) -> Choice:
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
    strict = any(bool(model.settings.strict) for model in path)
    context = _context([model.settings.context for model in path])
    return Choice(place, deadlines, int(first("retries") or 0), strict, context, bool(first("json_repair")))


def _context(path: list[ContextConfig | None]) -> ContextConfig | None:
    """Each key from the settings nearest to the caller that have it; None where nobody says anything."""
    found: dict[str, Any] = {}
    for settings in path:
        for name, value in msgspec.structs.asdict(settings).items() if settings is not None else ():
            if value is not None:
                found.setdefault(name, value)
    if not found:
        return None
    from gateway.config_types import ContextConfig

    return ContextConfig(**found)


def _no_settings() -> ModelConfig:
    from gateway.config_types import ModelConfig

    return ModelConfig(name="", targets=Order(()))


def unknown_model(name: str, known: list[str]) -> NotFound:
    """404 in OpenAI's words, with the names that exist; the caller's name is cut and escaped."""
    shown = name[:80].encode("ascii", "backslashreplace").decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    names = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    message = f"The model '{shown}' does not exist at this gateway. It serves: {names or 'none'}."
    return NotFound(message, param="model", code="model_not_found")
