"""Settings for notifications: messages about budgets and targets that are sent to a webhook."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, File, Header, Secrets
from gateway.config.secret import Secret, Url

Event = Literal["budget", "budget_refused", "target_down", "target_recovered"]
EVENTS: tuple[Event, ...] = get_args(Event)


class NotifyConfig(Struct, frozen=True):
    """Notifications about budgets and targets, sent as JSON to a webhook. A reload applies changes."""

    webhook: Annotated[
        Annotated[Secret, Meta(extra={"form": "webhook"})],
        Meta(
            description="URL that receives each notification in a POST request. It must be an https URL unless it is on "
            "loopback or `allow_http` is true. If it contains a credential, write `${NAME}` or `file:PATH`. Logs and errors never "
            "contain the URL.",
            examples=["https://hooks.example.com/services/1"],
        ),
    ]
    events: Annotated[
        tuple[Event, ...],
        Meta(
            description="Events to send. `budget`: a budget of a key, team, model, provider or target reaches a threshold. "
            "`budget_refused`: a call was refused because the rest of a budget does not cover it. `target_down`: a target has "
            "been down for `down_after`. `target_recovered`: a target that was down answers again.",
            examples=[["budget", "target_down"]],
        ),
    ] = EVENTS
    budget_thresholds: Annotated[
        tuple[Annotated[float, Meta(extra={"form": "share"})], ...],
        Meta(
            description="Spent shares of a budget at which a notification is sent, once per period. Default: `[50%, 80%, 100%]`.",
            examples=[["75%", "90%"]],
        ),
    ] = (0.5, 0.8, 1.0)
    down_after: Annotated[
        Duration,
        Meta(
            description="Time for which a target must be down before a notification is sent. Cooldowns after a rate limit do not count.",
            examples=["2m"],
        ),
    ] = 30.0
    headers: Annotated[
        dict[str, Header],
        Meta(description="Additional headers of each request.", examples=[{"authorization": "Bearer ${NOTIFY_TOKEN}"}]),
    ] = {}
    secret: Annotated[
        Secrets,
        Meta(
            description="Secret with which each request is signed (HMAC-SHA256, as in Standard Webhooks): `whsec_` and the base64 of "
            "at least 24 random bytes. With a list, each request has one signature per secret.",
            examples=["${NOTIFY_SECRET}"],
        ),
    ] = ()
    timeout: Annotated[Duration, Meta(description="Maximum time of one request.", examples=["5s"])] = 10.0
    allow_http: Annotated[bool, Meta(description="Whether an http URL that is not on loopback is allowed.", examples=[True])] = False
    proxy: Annotated[
        Annotated[Url, Meta(extra={"form": "proxy"})] | None,
        Meta(
            description="URL of a proxy, or `env` to use HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. Without this "
            "setting, those variables are ignored.",
            examples=["http://proxy:3128"],
        ),
    ] = None
    ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust in addition to those of the system.",
            examples=["/etc/ssl/company-ca.pem"],
        ),
    ] = None
