"""The caller of a translated API gets translated bytes and a correct length."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from gateway.http.caller import HEARTBEAT_EVENT, CallerDeadlines
from gateway.response.translated_caller import TranslatedCaller
from tests.flows.test_new_dialect import Prompt


class Pings(Prompt):
    """Sends comments as pings."""

    def feed(self, events: bytes) -> bytes:
        """Return a ping for a comment."""
        return b"event: ping\n\n" if events.startswith(b":") else b""


def caller(sent: list[MutableMapping[str, Any]]) -> TranslatedCaller:
    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    return TranslatedCaller({"headers": []}, receive, send, CallerDeadlines(), Pings())


async def test_error_is_translated_and_its_length_corrected() -> None:
    sent: list[MutableMapping[str, Any]] = []
    body = b'{"error":{"message":"no","param":"max_tokens"}}'
    await caller(sent).respond(400, [(b"content-length", b"%d" % len(body)), (b"x", b"y")], body)
    assert sent[0]["headers"] == [(b"x", b"y"), (b"x-prompt", b"yes"), (b"content-length", b"9")]
    assert sent[1]["body"] == b"400 limit"


async def test_events_without_a_counterpart_send_nothing_and_heartbeats_are_translated() -> None:
    sent: list[MutableMapping[str, Any]] = []
    translated = caller(sent)
    await translated.start_stream([])
    await translated.write(b'data: {"choices":[]}\n\n')
    await translated.write(HEARTBEAT_EVENT)
    await translated.finish(b"data: [DONE]\n\n")
    assert [each["body"] for each in sent[1:]] == [b"event: ping\n\n", b"event: end\ndata: True\n\n"]
    assert not sent[-1]["more_body"]
