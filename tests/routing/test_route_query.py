"""The properties of a call that the router reads: its session, its maximum cost, and whether a target honours its parameters."""

from __future__ import annotations

from typing import Any

import msgspec

import providers
from gateway.call import Call
from gateway.catalog.prices import TokenPrice
from gateway.config.model import ModelSettings
from gateway.errors import BadRequest
from gateway.routing.route_query import SESSION_PROMPT_BYTES, RouteQuery
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import Deadlines
from providers.base import Body, Target
from tests.routing.test_router import backend_of
from tests.support.each import each

GROQ = Target("c/x", "c", providers.get("groq"), "x", "http://x/v1")
OPENAI = Target("o/x", "o", providers.get("openai-compatible"), "x", "http://x/v1")


def query(headers: tuple[tuple[bytes, bytes], ...] = (), *, require: bool = False, **fields: Any) -> RouteQuery:
    """Return the query of a chat call with these fields."""
    raw = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields})
    call = Call("chat", "/v1/chat/completions", body=Body(raw), body_bytes=len(raw))
    call.requires_parameters = require
    return RouteQuery(call, headers, default_output=100)


def test_a_session_is_the_header_else_the_user_else_the_beginning() -> None:
    header = ((b"x-session-id", b"s1"),)
    assert query(header, user="u1").session("x-session-id") == b"hs1"
    assert query(header, user="u1").session("x-other") == b"uu1"
    assert query().session("x-session-id") == b'p{"role":"user","content":"hello"}'


def test_later_turns_of_a_conversation_have_the_same_session() -> None:
    first = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    more = [*first, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "bye"}]
    other = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "good day"}]
    sessions = [query(messages=messages).session("x") for messages in (first, more, other)]
    assert sessions[0] == sessions[1] != sessions[2]


def test_the_session_of_a_bare_prompt_is_its_beginning() -> None:
    raw = msgspec.json.encode({"model": "m", "prompt": "x" * 1000})
    call = Call("completions", "/v1/completions", body=Body(raw), body_bytes=len(raw))
    assert len(RouteQuery(call, (), 100).session("x")) == 1 + SESSION_PROMPT_BYTES


def test_the_cost_has_the_output_cap_or_the_default_and_is_infinite_without_a_price() -> None:
    price = TokenPrice(prompt=0, output=1_000_000, cached=0)
    assert query(max_tokens=7).cost(OPENAI, price) == 7
    assert query(max_tokens=7, n=3).cost(OPENAI, price) == 21
    assert query().cost(OPENAI, price) == 100
    assert query().cost(OPENAI, None) == float("inf")


def test_a_lost_parameter_is_named_in_the_error() -> None:
    asked = query(logit_bias={"1": 5})
    assert asked.honours_all(OPENAI, ModelSettings())
    assert not asked.honours_all(GROQ, ModelSettings())
    error = asked.no_target_error(GROQ)
    assert isinstance(error, BadRequest)
    assert error.param == "logit_bias"


@each(
    ("caller", "model", "accepted"),
    [(False, None, True), (True, None, False), (False, True, False), (True, True, False)],
)
def test_a_candidate_that_loses_a_parameter_is_skipped_if_caller_or_model_require_all(
    caller: bool, model: bool | None, accepted: bool
) -> None:
    backend = msgspec.structs.replace(backend_of("c", "x"), targets=(GROQ,))
    candidate = Candidate(backend, Deadlines(), ModelSettings(require_parameters=model))
    assert query(require=caller, logit_bias={"1": 5}).is_accepted_by(candidate) is accepted
