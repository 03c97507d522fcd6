"""Checks across the configuration: the store, budgets without prices, keys and the targets they can reach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.config import load as config
from gateway.config.check import check_new_key
from gateway.config.key import KeyConfig
from gateway.config.load import ConfigError
from gateway.config.problem import Problems
from tests.config.test_limit import key, parse
from tests.support.each import each


@each(
    ("text", "message"),
    [
        ("store: redis://h/zero", "store: the path of a Redis URL must be the number of a database"),
        ("store: redis+sentinel://a:1", "store: a Sentinel URL needs the name of the master: redis+sentinel://host:26379,host:26379/NAME/0"),
        ("store: redis+cluster://a:1/2", "store: a Redis cluster has only one database"),
        ("store: redis+cluster://a:1,:2", "store: expected HOST:PORT"),
        ("store: redis+cluster://a:0", "store: expected HOST:PORT"),
        ("store: redis+sentinal://a:1/m", "store: expected memory:// or a Redis URL"),
        ("store: redis://h/0?ssl=true", "store: a Redis URL must not contain '?'"),
        ("store: redis://h:-1", "store: expected HOST:PORT"),
        ("store: redis://h:99999", "store: expected HOST:PORT"),
        ("store: redis://a,b/0", "store: redis:// takes one address"),
        ("store_password: '${P}'", "store_password: has no effect with memory://: set store to a Redis URL"),
        ("store: 'redis://:${P}@h'\nstore_password: '${P}'", "store: the password is set twice"),
        (
            "store: redis://h\nstore_password: ['${P}', '${P}']",
            "store_password: the store accepts one password, not a list: remove the others",
        ),
        (
            "store: redis+sentinel://h/m\nstore_sentinel_password: ['${P}', '${P}']",
            "store_sentinel_password: Sentinel accepts one password, not a list: remove the others",
        ),
        ("store: redis://h\nstore_sentinel_password: '${P}'", "g.yaml:2:26: store_sentinel_password: requires a Sentinel store"),
        ("store: redis://h\nstore_deadline: 1h", "g.yaml:2:17: store_deadline: must be at most 10s"),
        ("store: rediss://h\nstore_ca: nowhere.pem", "store_ca: cannot read 'nowhere.pem'"),
    ],
)
def test_invalid_store_settings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"{text}\nproviders: {{local: {{}}}}\nmodels: {{m: local/x}}\n".encode(), "g.yaml", environ={"P": "s3cret-word"})
    assert message in str(caught.value)
    assert "s3cret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        (key("{spend: 1 USD/day}"), "keys.k.limits.spend"),
        (key("{requests: 1/s}", ", limits_per_user: {spend: 1 USD/day}"), "keys.k.limits_per_user.spend"),
    ],
)
def test_a_budget_for_a_target_without_a_price_is_refused(rest: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(rest, "box/llama")
    assert f"{path}: box/llama has no known price, so its cost cannot be counted: add the price under providers.box.prices" in str(
        caught.value
    )


def test_all_targets_without_a_price_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(key("{spend: 1 USD/day}"), "[box/llama, local/x, box/qwen, box/llama]")
    text = "box/llama, box/qwen have no known prices, so their cost cannot be counted: add the prices under providers.box.prices"
    assert text in str(caught.value)


@each(
    ("models", "target"), [("[m]", "box/llama"), ("['m*']", "box/llama"), ("[m, box/other]", "box/other"), ("[local/x, 'box/*']", "box/*")]
)
def test_a_budget_needs_prices_for_all_targets_that_the_key_can_reach(models: str, target: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            "expose_targets: true\n" + key("{spend: 1 USD/day}", f", models: {models}"), "box/llama" if target == "box/llama" else "local/x"
        )
    assert f"keys.k.limits.spend: {target} has no known price" in str(caught.value)


@each(("models", "taken"), [("box/llama", True), ("'box/*'", True), ("boxx/llama", False), ("box/", False)])
def test_a_key_may_be_limited_to_targets_if_they_are_exposed(models: str, taken: bool) -> None:
    text = key("{}", f", models: [{models}]")
    if taken:
        assert parse("expose_targets: true\n" + text).keys["k"].models
    for rest in (text, *(() if taken else ("expose_targets: true\n" + text,))):
        with pytest.raises(ConfigError, match=r"keys\.k\.models\[0\]: no model"):
            parse(rest)


@pytest.mark.parametrize("target", ["local/x", "openai/gpt-4o"])
def test_a_budget_for_targets_with_prices_is_accepted(target: str) -> None:
    assert parse(key("{spend: 1 USD/day}"), target).keys["k"].limits.spend


@each(
    "store", ["redis+cluster://a:1,b:2", "redis+sentinel://a:1/master", "rediss+sentinel://a:1,b:2/master/3", "rediss+cluster://[::1]:7000"]
)
def test_limits_can_use_every_redis_topology(store: str) -> None:
    assert parse(f"store: '{store}'\n" + key("{requests: 1/s}")).store == store


@pytest.mark.parametrize(("days", "accepted"), [(-1, False), (1, True), (None, True)])
def test_a_new_key_must_not_have_expired(days: int | None, accepted: bool) -> None:
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    problems = Problems("request")
    check_new_key(KeyConfig("k", "sha256:" + "ab" * 32, expires=expires), "", problems)
    assert (len(problems) == 0) is accepted
