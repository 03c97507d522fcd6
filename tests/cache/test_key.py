"""The key of a cached answer: equal only for equal requests of one owner to one target."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from msgspec import structs

import providers
from gateway.cache.key import CREDENTIAL_HEADERS, Owner, digest_of, owner_of
from gateway.keys.virtual_key import VirtualKey
from providers.base import Target, WireRequest
from tests.running import Figure
from tests.support.search import FULL

TARGET = Target("up/m", "up", providers.get("openai-compatible"), "m", "http://up/v1")
HEADERS = [("content-type", "application/json"), ("x-tenant", "t")]
REQUEST = WireRequest("/v1/chat/completions", HEADERS, b'{"model":"m"}')
OWNER = ("key", "a")


def digest(**changed: object) -> str:
    """Return the digest of the request, with some of its parts changed."""
    parts = {"owner": OWNER, "end_user": "", "target": TARGET, "request": REQUEST, **changed}
    return digest_of(**parts)  # type: ignore[arg-type]


def test_every_part_of_a_request_changes_its_key() -> None:
    changed = [
        digest(),
        digest(owner=("key", "b")),
        digest(owner=("team", "a")),
        digest(end_user="u"),
        digest(target=structs.replace(TARGET, name="other/m")),
        digest(target=structs.replace(TARGET, base_url="http://other/v1")),
        digest(target=structs.replace(TARGET, kind=providers.get("vllm"))),
        digest(target=structs.replace(TARGET, options={"path": "/models/a"})),
        *(digest(request=structs.replace(REQUEST, **{name: value})) for name, value in (
            ("path", "/v1/completions"), ("method", "PUT"), ("body", b'{"model":"m" }'), ("headers", HEADERS[:1]),
            ("headers", [*HEADERS, ("x-tenant", "t")]),
        )),
    ]  # fmt: skip
    assert len(set(changed)) == len(changed)
    assert all(len(each) == 64 for each in changed)
    assert digest() == digest()


def test_credentials_of_the_provider_do_not_change_the_key() -> None:
    for name in CREDENTIAL_HEADERS:
        assert digest(request=structs.replace(REQUEST, headers=[*HEADERS, (name, "secret")])) == digest()
    assert digest(target=structs.replace(TARGET, credential="other")) == digest()


def test_parts_that_flow_into_each_other_have_different_keys() -> None:
    split = [(("key", "ab"), "c"), (("key", "a"), "bc"), (("key", "abc"), ""), (("keya", "b"), "c")]
    assert len({digest(owner=owner, end_user=user) for owner, user in split}) == len(split)
    headers = [[("a", "bc")], [("ab", "c")], [("a", "b"), ("c", "")], [("a", ""), ("bc", "")]]
    assert len({digest(request=structs.replace(REQUEST, headers=each)) for each in headers}) == len(headers)


def test_owner_follows_the_scope() -> None:
    key, lonely = VirtualKey("k", team="t"), VirtualKey("k")
    assert [owner_of(each, "key") for each in (key, lonely, None)] == [("key", "k"), ("key", "k"), ("no key", "")]
    assert [owner_of(each, "team") for each in (key, lonely, None)] == [("team", "t"), ("key", "k"), ("no key", "")]
    assert {owner_of(each, "global") for each in (key, lonely, None)} == {("global", "")}


ALPHABET = ("", "a", "b", "ab", "ba", "aa", "\0", "é", "key", "team", "1", "10", '"', "a" * 65)


def generated(count: int, seed: int) -> Iterator[tuple[Owner, str, WireRequest]]:
    """Yield owners, end users and requests whose parts are made of a few texts, so that many are almost equal."""
    draw = random.Random(seed)
    word = lambda: draw.choice(ALPHABET) + draw.choice(ALPHABET)  # noqa: E731
    for _ in range(count):
        owner = (draw.choice(("key", "team", "global", "no key")), word())
        headers = [(word(), word()) for _ in range(draw.randrange(3))]
        body = (word() + word() + word()).encode()
        yield owner, word(), WireRequest("/" + word(), headers, body)


@pytest.mark.search
@pytest.mark.timeout(900)
def test_no_two_different_requests_of_any_owners_have_one_key(figure: Figure) -> None:
    """The key alone determines which owner gets an answer, so different keys keep an owner from the answers of another."""
    count = 1_000_000 if FULL else 50_000
    seen: dict[str, int] = {}
    distinct: set[int] = set()
    for owner, end_user, request in generated(count, seed=int(os.environ.get("SEED", "17"))):
        kept = tuple(header for header in request.headers if header[0] not in CREDENTIAL_HEADERS)
        whole = hash((owner, end_user, request.path, kept, request.body))
        distinct.add(whole)
        assert seen.setdefault(digest_of(owner, end_user, TARGET, request), whole) == whole, (owner, end_user, request)
    assert len(seen) == len(distinct)
    figure("keys of different requests and owners without a collision", float(len(seen)), "")
