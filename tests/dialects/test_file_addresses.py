"""Files at an address go only to targets that fetch them, through each API that has such files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.dialect import Translator
from gateway.dialects.file_addresses import refuse_addresses
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from providers.base import Body, Refusal
from tests.providers.adapting import target_for

URL = "https://example.org/a.pdf"
MESSAGES: dict[str, Any] = {
    "max_tokens": 5,
    "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": URL}}]}],
}
RESPONSES: dict[str, Any] = {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": URL}]}]}


@pytest.mark.parametrize(
    ("translator", "request_", "param"),
    [
        (MessagesTranslator(), MESSAGES, "messages[0].content[0].source.url"),
        (ResponsesTranslator(), RESPONSES, "input[0].content[0].file_url"),
    ],
)
def test_address_is_refused_by_its_own_name_unless_the_target_fetches_it(
    translator: Translator, request_: dict[str, Any], param: str
) -> None:
    body = Body(translator.request(json.dumps({"model": "m", **request_}).encode(), strict=False))
    assert translator.fit_to(body, target_for("anthropic"), strict=False) == []
    with pytest.raises(Refusal) as refused:
        translator.fit_to(body, target_for("openai"), strict=False)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_content")


def test_request_without_addresses_is_never_refused() -> None:
    refuse_addresses([], target_for("openai"), "send it inline")
