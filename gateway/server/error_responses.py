"""Error responses of the callers' endpoints, in the form of the API that the caller uses: OpenAI's or Anthropic's."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.mcp import undeclared_server
from gateway.config.passthrough_check import example_entry
from gateway.dialects.messages_api.dialect import is_messages_call
from gateway.dialects.messages_api.errors import translate_error, translate_headers
from gateway.errors import BadRequest, GatewayError, NotFound
from gateway.http.json_body import CallerDisconnectedError
from gateway.http.request_id import next_id


def uses_messages_api(request: Request) -> bool:
    """Return whether the request is one for Anthropic's API, judged by its path or by the header that Anthropic's clients send."""
    return is_messages_call(request.scope["path"], request.scope["headers"])


def post_only_error(request: Request) -> GatewayError:
    """Return the error for a method other than POST."""
    return GatewayError(
        f"{request.method} is not allowed on {request.scope['path']}. Use POST.",
        status=405,
        code="method_not_allowed",
        type="invalid_request_error",
        headers=((b"allow", b"POST"),),
    )


def error_response(request: Request, error: GatewayError, id: str | None = None) -> Response:
    """Return an error in the caller's form. `id` is the request id, if there is one already."""
    id = id or next_id()
    headers = [(b"x-request-id", id.encode()), (b"content-type", b"application/json"), *error.headers]
    body = error.as_body()
    if uses_messages_api(request):
        body, headers = translate_error(error.status, body, id), translate_headers(headers)
    response = Response(body, error.status)
    response.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]
    return response


async def answer_error(request: Request, error: GatewayError) -> Response:
    """Return the error that an endpoint raised."""
    return error_response(request, error)


def http_error_response(request: Request, error: HTTPException) -> Response:
    """Return the error for an unknown path or method."""
    path = request.scope["path"][:100]  # request.url would contain the Host header
    if error.status_code == 404:
        call = "/v1/messages" if uses_messages_api(request) else "/v1/chat/completions"
        return error_response(request, NotFound(f"Unknown path {path}. Use POST {call} or GET /v1/models.{_how_to_pass(path)}"))
    code = {405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    methods = sorted({method for method in (error.headers or {}).get("Allow", "").split(", ") if method not in ("", "HEAD")})
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return error_response(
        request,
        GatewayError(
            f"{request.method} is not allowed on {path}. Use {' or '.join(methods)}.",
            status=error.status_code,
            code=code,
            type="invalid_request_error",
            headers=headers,
        ),
    )


_COHERE_V1 = frozenset({"/v1/chat", "/v1/generate", "/v1/classify", "/v1/summarize"})
"""Paths of version 1 of Cohere's API."""


def _how_to_pass(path: str) -> str:
    """Return advice on how to pass the calls of a path to a provider, or "" if they cannot be passed."""
    if path in _COHERE_V1:
        return (
            " Version 1 of Cohere's API is served for embed and rerank only: use cohere.ClientV2, or pass the path to a "
            f'provider whose base_url is https://api.cohere.com/v1: passthrough: {{ "{path}": PROVIDER }}.'
        )
    if advice := undeclared_server(path):
        return f" {advice}"
    example = example_entry(path)
    if example is None:
        return ""
    return f" To pass it to a provider, declare it in the gateway's configuration: passthrough: {{ {example} }}."


async def answer_incomplete_body(request: Request, error: CallerDisconnectedError) -> Response:
    """Return the error for a body that ends early."""
    return error_response(request, BadRequest("The request body is incomplete.", code="invalid_json"))
