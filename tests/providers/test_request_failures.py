"""Errors about one request, in the words of many vendors: the model, the path, the size, the content."""

from __future__ import annotations

import json
from typing import Any

from providers.failures import read_failure, read_inband_failure
from providers.request_failures import kind_of_request_failure
from tests.support.each import each

AZURE_FILTER = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."


def failed(status: int, body: Any) -> tuple[str, int, str | None]:
    """Return kind, status and code of an error body, which is JSON or text."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    failure = read_failure(status, {}, raw)
    return failure.kind, failure.status, failure.code


@each(
    ("status", "body"),
    [
        (404, {"error": {"message": "The model `x-1` does not exist or you do not have access to it.", "code": "model_not_found"}}),
        (404, {"error": {"message": "The model `x-1` does not exist or you do not have access to it."}}),
        (400, {"error": {"message": "The requested model 'x-1' does not exist.", "param": "model", "code": "model_not_found"}}),
        (404, [{"error": {"code": 404, "message": "models/x-1 is not found for API version v1beta", "status": "NOT_FOUND"}}]),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: x-1"}}),
        (404, {"error": {"message": "model 'x-1' not found", "type": "not_found_error"}}),
        (404, {"error": "model 'x-1' not found"}),
        (404, {"object": "error", "message": "The model `x-1` does not exist.", "type": "NotFoundError", "param": None, "code": 404}),
        (400, {"error": {"message": "The model `x-1` has been decommissioned.", "code": "model_decommissioned"}}),
        (400, {"error": {"message": "The model x-1 has been decommissioned and is no longer supported."}}),
        (400, {"error": {"message": "vendor/x-1 is not a valid model ID", "code": 400}}),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error", "code": "invalid_request_error"}}),
        (400, {"object": "error", "message": "Invalid model: x-1", "type": "invalid_model", "code": "1500"}),
        (404, {"error": {"message": "Model not found, inaccessible, and/or not deployed", "code": "NOT_FOUND"}}),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}),
        (404, {"detail": "Model x-1 not found"}),
    ],
)
def test_missing_model_is_model_not_found_whatever_the_words(status: int, body: Any) -> None:
    assert failed(status, body) == ("model_not_found", 404, "model_not_found")


@each(
    "body",
    [
        {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)", "type": "invalid_request_error", "param": None, "code": None}},
        {"error": {"message": "Unknown request URL: POST /chat/completions. Please check the URL.", "code": "unknown_url"}},
        {"detail": "Not Found"},
        {"error": "Not Found"},
        {"error": {"code": "404", "message": "Resource not found"}},
        {"message": "no Route matched with those values"},
        "404 page not found",
        "<html><body>nginx</body></html>",
        "nothing to see here",
        "",
        {},
    ],
)
def test_missing_path_is_a_fault_of_base_url(body: Any) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    failure = read_failure(404, {}, raw)
    assert failure.kind == "path_not_found"
    assert "base_url" in failure.message


@each(
    ("status", "error", "kind"),
    [
        (400, {"message": "x", "code": "content_filter"}, "content_filter"),
        (400, {"message": AZURE_FILTER, "code": "400"}, "content_filter"),
        (400, {"message": "Output blocked by content filtering policy", "type": "invalid_request_error"}, "content_filter"),
        (403, {"message": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}, "content_filter"),
        (403, {"message": "Your chosen model requires moderation and your input was flagged"}, "content_filter"),
        (400, {"message": "InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content."}, "content_filter"),
        (400, {"message": "Content Exists Risk", "type": "invalid_request_error"}, "content_filter"),
        (500, {"message": "filtered", "code": "content_filter"}, "content_filter"),
        (413, {"message": "Request exceeds the maximum size", "type": "request_too_large"}, "request_too_large"),
        (413, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, "context_overflow"),
        (404, {"message": "No such File object: file-abc", "param": "file_id"}, "client_error"),
        (404, {"message": "Provider returned error", "code": 404}, "not_found"),
        (403, {"message": "The caller does not have permission"}, "client_error"),
        (403, {"message": "invalid api key"}, "auth"),
        (400, {"message": "Unknown parameter: 'moderation'.", "param": "moderation"}, "client_error"),
        (400, {"message": "'content_filter' is not one of the values", "param": "x"}, "client_error"),
        (400, {"message": "This model does not support tools: function not found in the model's schema"}, "client_error"),
        (422, {"message": "model: field required"}, "client_error"),
        (429, {"message": "the model is flagged as busy"}, "rate_limit"),
    ],
)  # fmt: skip
def test_kinds_of_requests_are_told_apart(status: int, error: dict[str, Any], kind: str) -> None:
    assert failed(status, {"error": error})[0] == kind


@each(
    ("page", "word"),
    [
        ("400 No required SSL certificate was sent", "client_certificate"),
        ("400 The SSL certificate error", "client certificate"),
        ("400 The plain HTTP request was sent to HTTPS port", "base_url"),
    ],
)
def test_proxy_that_misses_a_client_certificate_is_no_fault_of_the_caller(page: str, word: str) -> None:
    failure = read_failure(400, {}, f"<html><head><title>{page}</title></head></html>".encode())
    assert failure.kind == "tls"
    assert word in failure.message


def test_error_of_a_stream_has_the_same_kind() -> None:
    data = b'{"error": {"message": "The model `x` does not exist", "type": "not_found_error"}}'
    failure = read_inband_failure(data, lambda status, body: read_failure(status, {}, body))
    assert failure.kind == "model_not_found"


def test_404_about_a_parameter_concerns_the_request() -> None:
    assert kind_of_request_failure(404, set(), "previous_response_id", "Not found", is_object=True) == "client_error"
    assert kind_of_request_failure(404, set(), "model", "Not found", is_object=True) == "path_not_found"
