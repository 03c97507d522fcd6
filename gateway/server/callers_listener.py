"""The callers' listener and its certificate."""

from __future__ import annotations

from functools import partial

from gateway.config import pem
from gateway.config.source import LoadedConfig
from gateway.http.listener import Server, make_server
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Follower
from gateway.server.app import build_app


def make_callers_server(gateway: Gateway) -> Server:
    """The callers' listener, as configured."""
    config = gateway.config
    app = build_app(gateway)
    heads = partial(_head_timeout_s, gateway)
    refused = gateway.refused_at_the_edge
    return make_server(app, tls=config.tls, trusted_proxies=config.trusted_proxies, grace=None, head_timeout_s=heads, on_reject=refused)


def _head_timeout_s(gateway: Gateway) -> float:
    return gateway.config.callers.headers


def certificate_follower(gateway: Gateway, callers: Server) -> Follower:
    """New connections get the certificate that the files have now."""

    async def renew(loaded: LoadedConfig, number: int) -> None:
        reload_certificate(gateway, callers)

    return renew


def reload_certificate(gateway: Gateway, callers: Server) -> None:
    """Take certificate and key from where the configuration says, for the connections to come."""
    tls, context = gateway.config.tls, callers.config.ssl
    if tls is not None and context is not None:
        pem.load_certificate(context, tls)
