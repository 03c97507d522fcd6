"""One generation: a configuration, ready to serve.

A reload creates a new one; calls in flight use the old one until they end.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import structs

import providers
from gateway import catalog
from gateway.attempts.cached_attempt import Caching
from gateway.attempts.read_request import headers_known_to
from gateway.catalog.prices import price_of
from gateway.config.key import KeyConfig
from gateway.config.mcp import MCP_PROVIDER
from gateway.config.provider import ProviderConfig
from gateway.config.route import Ref, refs
from gateway.config.types import Config
from gateway.explain.request import DryRun
from gateway.fast.lane import FastLane
from gateway.hooks.load import load_hooks
from gateway.hooks.run import HookSet
from gateway.http.caller import CallerDeadlines
from gateway.keys.from_config import VirtualKeys, keys_of
from gateway.limits.declared import declared_limits
from gateway.limits.enforce import Limits
from gateway.passthrough.rules import Rules, mcp_rules_of, rules_of, target_model
from gateway.pipeline import Pipeline
from gateway.response.response_storage import ResponseStorage
from gateway.routing.discovered import discovered_models
from gateway.routing.router import Router
from gateway.runtime.resources import base_url_of, tls_files
from gateway.runtime.shared import Shared
from gateway.store.from_config import has_limits, needs_token_count
from gateway.store.limit import Limit
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.targets.latency import Latency
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from gateway.upstream.proxy import proxy_of
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Target

if TYPE_CHECKING:
    from gateway.runtime.resources import AnyEngine

# with expose_targets, callers choose the names of targets, so the number of cached backends is limited
MAX_CACHED_BACKENDS = 10_000


class Generation:
    """All objects made from one configuration: keys, models, backends, limits and the pipeline."""

    def __init__(self, config: Config, shared: Shared, number: int) -> None:
        self.config = config
        self.number = number
        self.loaded_at = time.time()
        local = {name: provider for name, provider in config.providers.items() if provider.type == "local"}
        self.engines: dict[str, AnyEngine] = {
            name: shared.resources.engine_for(provider) for name, provider in local.items()
        }
        self._resources = shared.resources
        self._runtime_keys = shared.runtime_keys
        self._runtime_teams = shared.runtime_teams
        self._latencies = shared.latencies
        self._transports: dict[str, Transport] = {}
        self._backends: dict[tuple[str, str, str], Backend] = {}
        in_flight = shared.in_flight
        self.limits = Limits(config, shared.limiter_for(config), shared.metrics, in_flight) if has_limits(config) else None
        self.keys = keys_of(config, shared.issuers.sources(config))
        self.set_runtime_keys(shared.runtime_keys.accepted)
        self.router = Router(
            {name: Model(name, model.targets, model) for name, model in config.models.items()},
            self.backend,
            expose_targets=config.expose_targets,
            providers=frozenset(config.providers),
            is_live=shared.health.is_live,
        )
        self.set_discovered({})
        self.storage = ResponseStorage(shared.responses, config.responses, config.max_body)
        self.hooks = HookSet(load_hooks(config, shared.resources.native), shared.metrics, shared.report) if config.hooks else None
        self.pipeline = _new_pipeline(self, shared)
        self.fast_lane = FastLane(self.pipeline, is_open=not config.cors and not config.hooks, base_path=config.callers.base_path)

    def set_discovered(self, lists: Mapping[str, tuple[str, ...] | None]) -> None:
        """Replace the models that providers list. None stands for a list that has not been read."""
        self.router.discovered = discovered_models(self.config.providers, self.config.models, lists)

    def dry_run(self) -> DryRun:
        """Return the objects that plan a call without sending it."""
        requests, known = self.pipeline.failover.requests, self.pipeline.known_headers
        return DryRun(self.router.for_dry_runs(), self.config, requests, known, self.storage, self.hooks)

    def set_runtime_keys(self, entries: Iterable[KeyConfig]) -> None:
        """Replace the keys that were created at run time."""
        teams = self._runtime_teams.merged(self.config.teams)
        if not (has_teams := self._runtime_teams.is_loaded):
            entries = [entry for entry in entries if entry.team is None or entry.team in teams]
        if self.keys.tokens is not None:
            self.keys.tokens.set_teams(teams, complete=has_teams)
        complete = has_teams and self._runtime_keys.is_loaded
        self.keys.set_runtime_keys(VirtualKeys(entries, teams, self._runtime_keys.replaced), complete=complete)
        if self.limits is not None:
            self.limits.budget_gauge.recheck()

    async def refresh_budgets(self) -> None:
        """Read the usage of budgets for the gauges."""
        if self.limits is not None:
            await self.limits.budget_gauge.refresh(self.limits.limiter, self._declared_limits)

    def hand_over(self, successor: Generation) -> None:
        """Let the next generation show the budgets of this one, which calls in flight of this one still settle."""
        if self.limits is not None and successor.limits is not None:
            self.limits.budget_gauge.hand_over(successor.limits.budget_gauge)

    def _declared_limits(self, owners: Collection[str]) -> list[Limit]:
        names = [owner.partition(":")[2] for owner in owners]
        keys = [self._runtime_keys.by_name[name].entry for name in names if name in self._runtime_keys.by_name]
        known = self._runtime_teams.by_name
        teams = [known[name].entry for name in names if name in known and name not in self.config.teams]
        return declared_limits(self.config, keys, teams, owners=owners)

    def set_replicas(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        """Replace the addresses of the replicas of each provider."""
        self.router.replicas = addresses
        found = {(provider, address) for provider, each in addresses.items() for address in each}
        self._backends = {key: one for key, one in self._backends.items() if not key[2] or (key[0], key[2]) in found}

    def backend(self, provider: str, model: str, replica: str = "") -> Backend:
        """Return the backend of a provider's model, or of the model at one replica, if `replica` is the address of one."""
        backend = self._backends.get((provider, model, replica))
        if backend is None:
            backend = self._new_backend(self.config.providers[provider], model, replica)
            if len(self._backends) < MAX_CACHED_BACKENDS:
                self._backends[provider, model, replica] = backend
        return backend

    def passed_rules(self) -> Rules | None:
        """Return the rules of passed paths and of MCP servers, or None if there are none."""
        config = self.config
        if not config.passthrough and not config.mcp:
            return None
        return rules_of(config, self.backend, self._resources.native, mcp_rules_of(config, self._new_backend))

    def _new_backend(self, provider: ProviderConfig, model: str, replica: str = "") -> Backend:
        engine = self.engines.get(provider.name)
        kind = providers.get(provider.type)
        target = Target(
            name=str(Ref(provider.name, model, replica)),
            shared_name=str(Ref(provider.name, model)) if replica else "",
            provider=provider.name,
            kind=kind,
            model=model,
            base_url=base_url_of(provider),
            credential=provider.api_key[0].reveal() if provider.api_key else None,
            socket=engine.socket if engine else None,
            options=provider.options,
            headers=tuple((name.lower(), value.reveal()) for name, value in provider.headers.items()),
            forward_headers=frozenset(provider.forward_headers),
            pass_fields=provider.pass_fields,
            facts=catalog.find(provider.type, model, provider.name, provider.overlay) if provider.overlay is not None else None,
            reports_cost=kind.reports_cost if provider.reports_cost is None else provider.reports_cost,
        )
        deadlines = Deadlines(
            provider.connect, provider.tls, provider.first_byte_timeout, provider.idle_timeout, provider.timeout
        )
        own = kind.is_own_server
        other_credentials = [structs.replace(target, credential=key.reveal()) for key in provider.api_key[1:]]
        return Backend(
            (target, *other_credentials),
            _origin(target, provider, replica),
            self._transport(provider),
            deadlines,
            engine,
            latency=self._latency(target.name),
            price=price_of(provider, model),
            bills_aborted_prompt=not own if provider.bills_aborted_prompt is None else provider.bills_aborted_prompt,
            counts_aborted_prompt=own and provider.bills_aborted_prompt is None,
            finishes_reading=provider.drain,
        )

    def _latency(self, target: str) -> Latency:
        """Return the latency of a target. All generations share it."""
        latency = self._latencies.get(target)
        if latency is None:
            latency = Latency()
            if len(self._latencies) < MAX_CACHED_BACKENDS:
                self._latencies[target] = latency
        return latency

    def _transport(self, provider: ProviderConfig) -> Transport:
        transport = self._transports.get(provider.name)
        if transport is None:
            transport = self._transports[provider.name] = self._resources.transport_for(provider)
        return transport

    def uses(self, resource: object) -> bool:
        """Return whether calls of this generation may use `resource`, which is a transport or an engine."""
        return any(resource is each for each in (*self._transports.values(), *self.engines.values()))

    def tokenizers(self) -> set[Tokenizer]:
        """Return the tokenizers that count prompts.

        They belong to models with context settings or, if tokens are limited, to all models. Local engines count their
        own prompts.
        """
        types = {name: provider.type for name, provider in self.config.providers.items() if provider.type != "local"}
        limited = self.limits is not None and (
            self.limits.counts_tokens
            or any(map(needs_token_count, self._runtime_keys.entries))
            or any(needs_token_count(team.entry) for team in self._runtime_teams.by_name.values())
        )
        counted = {
            (types[ref.provider], ref.model, model.context.tokenizer if model.context is not None else None)
            for model in self.config.models.values()
            if limited or model.context is not None
            for ref in refs(model.targets)
            if ref.provider in types
        }
        return {tokenizer_for(*each) for each in counted}


def _new_pipeline(generation: Generation, shared: Shared) -> Pipeline:
    config = generation.config
    return Pipeline(
        keys=generation.keys,
        router=generation.router,
        metrics=shared.metrics,
        log=shared.log,
        watch=shared.sweeper,
        deadlines=shared.deadlines or CallerDeadlines.from_config(config.callers),
        max_body=config.max_body,
        strict=config.strict,
        limits=generation.limits,
        mirrors=shared.mirrors,
        ledger=shared.ledger,
        default_output=config.default_output_tokens,
        health=shared.health,
        budget=shared.retry_budget,
        hedges=shared.hedges,
        tracer=shared.tracer,
        known=headers_known_to(config),
        passed=generation.passed_rules(),
        storage=generation.storage,
        hooks=generation.hooks,
        caching=_caching(config, shared),
    )


def _caching(config: Config, shared: Shared) -> Caching | None:
    has_cache = any(model.cache is not None for model in config.models.values())
    return Caching(shared.cache, config.cache) if has_cache else None


def label_names(config: Config) -> tuple[set[str], set[str], dict[str, str]]:
    """Return the names that may become label values: models, targets, and provider types by provider name."""
    models = {name for name in config.models if "*" not in name}
    named = {(ref.provider, ref.model) for model in config.models.values() for ref in refs(model.targets)}
    named |= {(model.mirror.target.provider, model.mirror.target.model) for model in config.models.values() if model.mirror is not None}
    targets = {f"{provider}/{model}" for provider, model in named if provider is not None and "*" not in model}
    models |= set(config.passthrough)
    targets |= {f"{entry.provider}/{target_model(entry)}" for entry in config.passthrough.values()}
    models |= {entry.pattern for entry in config.mcp.values()}
    targets |= {f"{MCP_PROVIDER}/{name}" for name in config.mcp}
    types = {name: provider.type for name, provider in config.providers.items()}
    return models, targets, types | ({MCP_PROVIDER: MCP_PROVIDER} if config.mcp else {})


def _origin(target: Target, provider: ProviderConfig, replica: str) -> Origin:
    url = urlsplit(target.base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    proxy = proxy_of(provider.proxy, target.base_url)
    address = replica.rpartition(":")[0].strip("[]") or None
    return Origin(url.scheme, url.hostname or "", port, target.socket, tls_files(provider), proxy, provider.max_connections, address)
