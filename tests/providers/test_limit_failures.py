"""providers.limit_failures: the limits of models and accounts are recognised in the words of every vendor."""

from __future__ import annotations

import json
from typing import Any

from providers.failures import read_failure, read_inband_failure
from providers.limit_failures import QUOTA_STATUSES, is_out_of_credit
from tests.support.each import each


def fail(status: int, error: dict[str, Any]) -> Any:
    """Return the failure of an error object."""
    return read_failure(status, {}, json.dumps({"error": error}).encode())


@each(
    ("status", "message"),
    [
        (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        (400, "Unable to submit request because the input token count is 1048577 but model only supports up to 1048576."),
        (400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens."),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 8193."),
        (422, "input tokens + max_tokens must be <= 8192"),
        (500, "prompt too long; exceeded max context length by 12 tokens"),
        (400, "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)"),
        (400, "prompt token count of 70000 exceeds the limit of 64000"),
        (400, "The number of tokens to keep from the initial prompt is greater than the context length."),
        (400, "Trying to keep the first 5000 tokens. However, the model is loaded with context length of only 4096 tokens"),
        (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
        (400, "The input (200000 tokens) is longer than the model's context length (131072 tokens)."),
        (400, "input length and `max_tokens` exceed context limit: 199211 + 20000 > 200000"),
        (400, "Input length 140000 + max_new_tokens 2000 exceeds the limit of 131072"),
        (400, "The input prompt exceeds the model's maximum sequence length (8192)"),
        (400, "Prompt exceeds max length"),
        (400, "Range of input length should be [1, 30720]"),
        (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."),
        (413, "Request body too large for gpt-4o model. Max size: 8000 tokens."),
        (400, "size limit exceeded by 11326 token"),
    ],
)
def test_context_overflow_is_recognised_in_every_vendors_words(status: int, message: str) -> None:
    failure = fail(status, {"message": message})
    assert (failure.kind, failure.status, failure.code) == ("context_overflow", 400, "context_length_exceeded")


@each(
    ("status", "message"),
    [
        (400, "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens"),
        (400, "max_tokens is too large: 99999. This model supports at most 16384 completion tokens"),
        (400, "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64"),
        (400, "Invalid 'tools': array too long. Expected an array with maximum length 128"),
        (400, "stop has too many entries"),
    ],
)
def test_other_limits_of_a_request_are_no_context_overflow(status: int, message: str) -> None:
    assert fail(status, {"message": message}).kind == "client_error"


@each(
    ("status", "error"),
    [
        (403, {"message": "Your team has used all available credits or reached its monthly spending limit."}),
        (429, {"message": "Your team has used all available credits."}),
        (412, {"message": "Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices"}),
        (400, {"message": "You have reached your specified API usage limits. You will regain access on 2026-12-01."}),
        (403, {"message": "Key limit exceeded (monthly limit). Manage it in your settings", "code": 403}),
        (429, {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}),
        (403, {"message": "Sorry, your account balance is insufficient", "code": 30001}),
        (403, {"message": "refused", "code": "NOT_ENOUGH_BALANCE"}),
        (400, {"message": "Access denied, please make sure your account is in good standing.", "code": "Arrearage"}),
        (401, {"message": "Insufficient balance. Manage your billing", "type": "CreditsError"}),
        (403, {"message": "refused", "code": "insufficient_user_quota"}),
        (400, {"message": "API access is blocked because the organization reached its spend limit", "code": "blocked_api_access"}),
        (429, {"message": "余额不足或无可用资源包,请充值。", "code": "1113"}),
    ],
)
def test_an_account_without_credit_is_a_quota(status: int, error: dict[str, Any]) -> None:
    assert fail(status, error).kind == "quota"


@each(
    ("status", "error", "kind", "shown"),
    [
        (413, {"message": "Request too large", "code": "rate_limit_exceeded", "type": "tokens"}, "rate_limit", 429),
        (413, {"message": "Request too large on tokens per minute (TPM): Limit 6000", "type": "tokens"}, "rate_limit", 429),
        (400, {"message": "slow down", "code": "rate_limit_exceeded"}, "rate_limit", 429),
        (403, {"message": "slow down", "type": "rate_limit_error"}, "rate_limit", 429),
        (429, {"message": "You exceeded your current quota, please check your plan and billing details."}, "rate_limit", 429),
        (429, {"message": "Limit reached on tokens per day (TPD): Limit 100000", "code": "rate_limit_exceeded"}, "rate_limit", 429),
        (413, {"message": "Request exceeds the maximum size"}, "request_too_large", 413),
        (403, {"message": "not in your plan", "code": "tier_not_allowed"}, "client_error", 403),
        (403, {"message": "Country, region, or territory not supported"}, "client_error", 403),
        (403, {"message": "refused", "code": "unsupported_country_region_territory"}, "client_error", 403),
        (403, {"message": "Your request was blocked."}, "client_error", 403),
        (403, {"message": "This API key was blocked."}, "auth", 403),
        (498, {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"}, "overloaded", 498),
        (500, {"message": "try again later", "type": "engine_overloaded_error"}, "overloaded", 500),
        (429, {"message": "try again later", "type": "engine_overloaded_error"}, "rate_limit", 429),
        (500, {"message": "boom"}, "server_error", 500),
    ],
)
def test_money_rate_and_permission_are_told_apart(status: int, error: dict[str, Any], kind: str, shown: int) -> None:
    failure = fail(status, error)
    assert (failure.kind, failure.status) == (kind, shown)


@each(
    ("type_", "kind"),
    [
        ("exceeded_current_quota_error", "quota"), ("billing_error", "quota"), ("rate_limit_reached", "rate_limit"),
        ("engine_overloaded_error", "overloaded"), ("request_too_large", "request_too_large"), ("content_filter", "content_filter"),
    ],
)  # fmt: skip
def test_an_error_in_a_stream_has_the_kind_of_its_type(type_: str, kind: str) -> None:
    data = json.dumps({"error": {"message": "m", "type": type_}}).encode()
    assert read_inband_failure(data, lambda status, body: read_failure(status, {}, body)).kind == kind


@each("status", [404, 409, 500, 503])
def test_words_about_credit_count_only_with_statuses_that_vendors_use(status: int) -> None:
    assert status not in QUOTA_STATUSES
    assert not is_out_of_credit(status, {"insufficient_quota"}, "out of credits")
