"""The callers' listener and its TLS certificate."""

from __future__ import annotations

import os
from functools import partial

from gateway.config import pem
from gateway.config.source import LoadedConfig
from gateway.http.listener import Server, make_server
from gateway.http.request_start import ServeFast
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Follower
from gateway.server.app import build_app

PIPELINE_ONLY = "LOCKGATE_PIPELINE_ONLY"
"""Environment variable with which the tests turn the fast lane off, so that every call takes the pipeline."""


def make_callers_server(gateway: Gateway) -> Server:
    """Return the callers' server with the settings of the current configuration."""
    config = gateway.config
    app = build_app(gateway)
    return make_server(
        app,
        tls=config.tls,
        trusted_proxies=config.trusted_proxies,
        grace=None,
        head_timeout_s=partial(_head_timeout_s, gateway),
        on_reject=gateway.count_edge_refusal,
        guard=gateway.page_guard,
        serves_websockets=True,
        serve_fast=serve_fast(gateway),
    )


def serve_fast(gateway: Gateway) -> ServeFast | None:
    """Return the function of the fast lane.

    Return None if every request takes the pipeline, such as behind a proxy, where a header has the caller's address.
    """
    if gateway.config.trusted_proxies or PIPELINE_ONLY in os.environ:
        return None
    return lambda cycle: gateway.generation.fast_lane.serve(cycle)


def _head_timeout_s(gateway: Gateway) -> float:
    return gateway.config.callers.headers


def certificate_follower(gateway: Gateway, callers: Server) -> Follower:
    """Return a follower of reloads that loads the new certificate for new connections."""

    async def follow(loaded: LoadedConfig, number: int) -> None:
        reload_certificate(gateway, callers)

    return follow


def reload_certificate(gateway: Gateway, callers: Server) -> None:
    """Load the configured certificate and key for new connections."""
    tls, context = gateway.config.tls, callers.config.ssl
    if tls is not None and context is not None:
        pem.load_certificate(context, tls)
