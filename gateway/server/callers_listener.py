"""The callers' listener and its certificate."""

from __future__ import annotations

from functools import partial

from gateway.config import pem
from gateway.config.source import LoadedConfig
from gateway.http.listener import Server, server
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Follower
from gateway.server.app import build_app


def callers_server(gateway: Gateway) -> Server:
    """The callers' listener, as configured."""
    config = gateway.config
    app = build_app(gateway)
    heads = partial(_head_time, gateway)
    refused = gateway.refused_at_the_edge
    return server(app, tls=config.tls, trusted_proxies=config.trusted_proxies, grace=None, heads=heads, refused=refused)


def _head_time(gateway: Gateway) -> float:
    return gateway.config.callers.headers


def renew_certificate(gateway: Gateway, callers: Server) -> Follower:
    """New connections get the certificate that the files have now."""

    async def renew(loaded: LoadedConfig, number: int) -> None:
        load_certificate(gateway, callers)

    return renew


def load_certificate(gateway: Gateway, callers: Server) -> None:
    """Take certificate and key from where the configuration says, for the connections to come."""
    tls, context = gateway.config.tls, callers.config.ssl
    if tls is not None and context is not None:
        pem.load_certificate(context, tls)
