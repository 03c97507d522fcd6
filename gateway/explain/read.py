"""Reads a request for a dry run as the pipeline reads it. Errors use the caller's own names for the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.attempts.read_request import read_caller, read_parameters, read_request
from gateway.call import Call
from gateway.config.types import Config
from gateway.dialects.request_headers import KnownHeaders
from gateway.errors import Forbidden, GatewayError, unreadable
from gateway.keys.virtual_key import may_use
from gateway.routing.router import Router
from gateway.targets.candidate import Model


def read_call(
    call: Call,
    source: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    router: Router,
    config: Config,
    known: KnownHeaders,
) -> Model:
    """Read a body into its call, and return the requested model. Raise the GatewayError that a caller would get."""
    try:
        read_request(call, headers, source, known, strict=config.strict)
        read_caller(call, headers, known)
        model = router.find(call.model, call.key)
        call.route = model.name
        if not may_use(call.key, call.model):
            message = f"The key '{call.key.name if call.key else ''}' may not use the model '{model.name}'."
            raise Forbidden(message, param="model")
        read_parameters(call)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    except GatewayError as error:
        rename(error, call)
        raise
    return model


def rename(error: GatewayError, call: Call) -> None:
    """Replace the parameter of an error with the caller's name for it."""
    if call.translator is not None and error.param is not None:
        name = call.translator.param(error.param)
        error.message = error.message.replace(f"'{error.param}", f"'{name}")
        error.param = name
