"""Reads a caller's request into its Call: headers, body and the gateway's own parameters.

The server and `lockgate explain` use this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import providers
from gateway.attempts.fit import OVERFLOW_PARAM, PROMPT_LIMIT_PARAM
from gateway.call import Call
from gateway.config.types import Config
from gateway.dialects.azure import DEPLOYMENTS, deployment_of, set_deployment
from gateway.dialects.dialect import Translator
from gateway.dialects.end_user import check_required, end_user
from gateway.dialects.parameters import read_model
from gateway.dialects.request_headers import KnownHeaders, known_headers, read_headers
from gateway.dialects.tags import with_metadata
from gateway.http.json_body import parse_body, parse_request
from gateway.keys.brought import brought_credentials
from gateway.response.headers import linked_id
from gateway.tokens.inputs import WITHOUT_OUTPUT
from providers.base import Body

_READ = frozenset({"stream", OVERFLOW_PARAM, PROMPT_LIMIT_PARAM, "stream_options", "stop"})
"""Parameters that `read_parameters` reads from requests for text."""


def headers_known_to(config: Config) -> KnownHeaders:
    """Return the headers that the gateway reads: its own, those that providers define, and those that the configuration names."""
    forwarded = [name for provider in config.providers.values() for name in provider.forward_headers]
    forwarded += [name for provider in config.providers.values() for name in providers.get(provider.type).caller_headers]
    sessions = [model.session_header for model in config.models.values() if model.session_header]
    return known_headers(forwarded, sessions, config.end_user_header, config.tags)


def read_request(
    call: Call, headers: Sequence[tuple[bytes, bytes]], source: bytes, known: KnownHeaders, *, strict: bool
) -> None:
    """Read the body, the model and the `known` headers. `strict` is the configuration's setting."""
    call.body_bytes = len(source)
    found = call.headers = read_headers(headers, known)
    if found is not None:
        wanted = found.gateway
        call.strict, call.requires_parameters, call.wants_receipt = wanted.strict, wanted.require_parameters, wanted.receipt_in_body
        call.client_id = linked_id(found.request_id) if found.request_id is not None else None
        call.tags = wanted.tags
        if wanted.credentials:
            call.credentials = brought_credentials(call.key, wanted.credentials)
    call.strict = call.strict or strict or (call.key is not None and call.key.strict)
    if call.translator is not None:
        if found is not None:
            found.used |= call.translator.used_headers
        body = _translate(call, call.translator, parse_request(source), source)
    else:
        body = parse_request(source)
    call.body = body
    if call.path.startswith(DEPLOYMENTS):
        set_deployment(body, deployment_of(call.path))
    call.model = read_model(body)


def _translate(call: Call, translator: Translator, given: Body, source: bytes) -> Body:
    """Return the chat completion for the request `given`, whose bytes are `source`."""
    native = call.dialect.native
    if native is not None:
        call.source = given
        plain = native.translate_plain(translator, given) if native.translate_plain is not None else None
        if plain is not None:
            call.body_bytes = plain.compact_size
            return plain
    source = translator.request(source, strict=call.strict)
    # earlier turns of a stored conversation are included; if the translation is incomplete, the native request is larger
    call.body_bytes = len(source) if translator.refusal is None else max(len(source), call.body_bytes)
    return parse_body(source)


def read_caller(call: Call, headers: Sequence[tuple[bytes, bytes]], known: KnownHeaders) -> None:
    """Read the end user and the tags of a call. Raise BadRequest if its key requires an end user and the call names none."""
    key = call.key
    named = key.end_user if key is not None else ""
    call.end_user = named or end_user(call.body, call.source, headers, known.end_user)
    if key is not None and key.requires_end_user:
        check_required(call.end_user, known.end_user)
    if known.tags:
        tags = with_metadata(call.tags, call.source if call.source is not None else call.body, known.tags)
        call.tags = tags if key is None or not key.tags else tuple(sorted({*tags, *key.tags}))


def read_parameters(call: Call) -> None:
    """Check the parameters, and read those that the gateway applies: streaming, usage, stops, deadline, context window."""
    body = call.body
    assert body is not None
    call.dialect.check(body)
    if "timeout_microseconds" in body and (timeout := body.get("timeout_microseconds")):
        call.deadline = timeout / 1e6
    if call.operation in WITHOUT_OUTPUT:
        return
    call.stream = call.wants_fit = False
    call.wants_usage = call.translator is not None  # answers of the translated APIs always report the usage
    if not body.has_any(_READ):
        return
    call.stream = body.get("stream") is True
    call.wants_fit = OVERFLOW_PARAM in body or PROMPT_LIMIT_PARAM in body
    if call.translator is None and "stream_options" in body:
        call.wants_usage = (body.get("stream_options") or {}).get("include_usage") is True
    if body.get("stop") and not (call.operation == "completions" and body.get("echo")):
        stop = body.get("stop")
        call.stops = (stop,) if type(stop) is str else tuple(stop)
        call.keeps_stop = body.get("include_stop_str_in_output") is True
