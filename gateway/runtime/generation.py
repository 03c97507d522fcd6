"""One generation: a Config made ready to serve. A reload makes a new one; calls in flight keep theirs until they end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import structs

import providers
from gateway.catalog.prices import price_of
from gateway.config.key import KeyConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import refs
from gateway.config.types import Config
from gateway.http.caller import CallerDeadlines
from gateway.keys.from_config import keys_of, resolve
from gateway.limits.enforce import Limits
from gateway.pipeline import Pipeline
from gateway.routing.router import Router
from gateway.runtime.resources import base_url_of
from gateway.store.from_config import has_limits, needs_token_count
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.targets.latency import Latency
from gateway.tokens.counter import Tokenizer, tokenizer_for
from gateway.upstream.proxy import proxy_of
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Target

if TYPE_CHECKING:
    from gateway.runtime.gateway import Gateway
    from gateway.runtime.resources import AnyEngine


MOST_PLACES = 10_000


class Generation:
    """Everything that follows from one Config: keys, models, places, limits, and the pipeline that serves by them."""

    def __init__(self, config: Config, gateway: Gateway, number: int) -> None:
        """`gateway` lends what outlives generations: transports, engines, the store of limits, counters."""
        self.config = config
        self.number = number
        self.loaded_at = time.time()
        self.engines: dict[str, AnyEngine] = {
            name: gateway.lender.engine(provider) for name, provider in config.providers.items() if provider.type == "local"
        }
        self._lender = gateway.lender
        self._made_keys = gateway.made_keys
        self._transports: dict[str, Transport] = {}
        self._paces = gateway.paces
        self._places: dict[tuple[str, str], Backend] = {}
        models = {name: Model(name, one.targets, one) for name, one in config.models.items()}
        self.keys = keys_of(config)
        self.join_keys(gateway.made_keys.entries)
        self.router = Router(
            models, self.place, expose_targets=config.expose_targets, providers=frozenset(config.providers), is_live=gateway.health.is_live
        )
        self.limits = Limits(config, gateway.limiter(config), gateway.metrics) if has_limits(config) else None
        self.pipeline = Pipeline(
            keys=self.keys,
            router=self.router,
            metrics=gateway.metrics,
            log=gateway.log,
            watch=gateway.watch,
            deadlines=gateway.deadlines or CallerDeadlines.from_config(config.callers),
            max_body=config.max_body,
            strict=config.strict,
            limits=self.limits,
            mirrors=gateway.mirrors,
            ledger=gateway.ledger,
            default_output=config.default_output_tokens,
            health=gateway.health,
            budget=gateway.budget,
            hedges=gateway.hedges,
            tracer=gateway.tracer,
        )

    def join_keys(self, made: Iterable[KeyConfig]) -> None:
        """Take the keys made at run time as they are now."""
        self.keys.set_runtime_keys(resolve(made, self.config.teams), complete=self._made_keys.is_loaded)

    def place(self, provider: str, model: str) -> Backend:
        """The place of a provider's model; made once, as long as callers do not make names up (`expose_targets`)."""
        place = self._places.get((provider, model))
        if place is None:
            place = self._make_place(self.config.providers[provider], model)
            if len(self._places) < MOST_PLACES:
                self._places[provider, model] = place
        return place

    def _make_place(self, provider: ProviderConfig, model: str) -> Backend:
        kind = providers.get(provider.type)
        engine = self.engines.get(provider.name)
        base_url = base_url_of(provider)
        target = Target(
            name=f"{provider.name}/{model}",
            provider=provider.name,
            kind=kind,
            model=model,
            base_url=base_url,
            credential=provider.api_key[0].reveal() if provider.api_key else None,
            socket=engine.socket if engine else None,
            options=provider.options,
            headers=tuple((name.lower(), value.reveal()) for name, value in provider.headers.items()),
        )
        deadlines = Deadlines(provider.connect, provider.tls, provider.first_byte_timeout, provider.idle_timeout, provider.timeout)
        others = [structs.replace(target, credential=key.reveal()) for key in provider.api_key[1:]]
        return Backend(
            (target, *others),
            _origin(target, provider),
            self._transport(provider),
            deadlines,
            engine,
            latency=self._pace(target.name),
            price=price_of(provider, model),
            bills_aborted_prompt=provider.bills_aborted_prompt,
            finishes_reading=provider.drain,
        )

    def _pace(self, target: str) -> Latency:
        """How a target has been doing, whatever generation it was asked by; not kept for very many names that callers make up."""
        found = self._paces.get(target)
        if found is None:
            found = Latency()
            if len(self._paces) < MOST_PLACES:
                self._paces[target] = found
        return found

    def _transport(self, provider: ProviderConfig) -> Transport:
        found = self._transports.get(provider.name)
        if found is None:
            found = self._transports[provider.name] = self._lender.transport(provider)
        return found

    def uses(self, resource: object) -> bool:
        """Whether a transport or an engine of the process may still be needed by a call of this generation."""
        return any(resource is one for one in (*self._transports.values(), *self.engines.values()))

    def tokenizers(self) -> set[Tokenizer]:
        """What counts prompts: of models that mind their context, of all where tokens are limited; the local engine counts its own."""
        kinds = {name: one.type for name, one in self.config.providers.items() if one.type != "local"}
        limited = self.limits is not None and (self.limits.counts_tokens or any(map(needs_token_count, self._made_keys.entries)))
        found = set()
        for one in self.config.models.values():
            if limited or one.context is not None:
                file = one.context.tokenizer if one.context is not None else None
                found |= {tokenizer_for(kinds[ref.provider], ref.model, file) for ref in refs(one.targets) if ref.provider in kinds}
        return found


def label_names(config: Config) -> tuple[set[str], set[str], dict[str, str]]:
    """The models and the targets that a configuration names, and its providers' types: what may become label values."""
    models = {name for name in config.models if "*" not in name}
    found = [ref for one in config.models.values() for ref in refs(one.targets)]
    found += [one.mirror.target for one in config.models.values() if one.mirror is not None]
    targets = {str(ref) for ref in found if ref.provider is not None}
    return models, targets, {name: one.type for name, one in config.providers.items()}


def _origin(target: Target, provider: ProviderConfig) -> Origin:
    url = urlsplit(target.base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    proxy = proxy_of(provider.proxy, target.base_url)
    return Origin(url.scheme, url.hostname or "", port, target.socket, provider.ca, proxy, provider.max_connections)
