"""Dashboard Limits and spend: limit decisions, tokens and cost by key and model, and the store."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import ANY, BAD, KEY, rare, rate, share

SPEND = Dashboard(
    "limits-and-spend",
    "Limits and spend",
    "Limit decisions, tokens and cost by key and model, and the state of the store.",
    (
        stat(
            "Refused by a limit",
            "percentunit",
            "Share of limit decisions that refused a call.",
            share(rate("lockgate_limit_decisions_total", 'decision="refused"'), rate("lockgate_limit_decisions_total")),
            BAD,
        ),
        stat("Store", "short", "Whether the store is available.", "min(lockgate_store_up)", words=(("1", "up"), ("0", "down"))),
        stat(
            "Missing from the store",
            "short",
            "Processes without a heartbeat. Their share of each limit stays reserved for two minutes.",
            rare('max(lockgate_store_members{state="missing"})'),
            ANY,
        ),
        stat(
            "Decided without the store",
            "percentunit",
            "Share of limit decisions made during a store outage.",
            share(rate("lockgate_limit_decisions_total", 'mode=~"local_share|open|closed"'), rate("lockgate_limit_decisions_total")),
            BAD,
        ),
        stat(
            "Spend, last hour", "currencyUSD", "Cost of the calls of the last hour.", rare("sum(increase(lockgate_cost_usd_total[1h]))")
        ),
        stat("Spend, last day", "currencyUSD", "Cost of the calls of the last day.", rare("sum(increase(lockgate_cost_usd_total[1d]))")),
        stat(
            "Without a price",
            "short",
            "Answers and billed attempts of the last hour whose cost is unknown. Set the model's prices under prices: of the provider.",
            rare("sum(increase(lockgate_unpriced_usages_total[1h]))"),
            ANY,
        ),
        stat(
            "Journal errors",
            "short",
            "Failed writes to the usage journal in the last hour.",
            rare("sum(increase(lockgate_ledger_journal_errors_total[1h]))"),
            ANY,
        ),
        stacked(
            "Decisions",
            "reqps",
            "Limit decisions by owner of the limit.",
            {rate("lockgate_limit_decisions_total", "", "owner, decision"): "{{owner}} {{decision}}"},
        ),
        Panel(
            "Refusals by kind",
            "reqps",
            "Refusals by kind of limit (requests, tokens, concurrent, spend) and its owner.",
            {rare(rate("lockgate_limit_decisions_total", 'decision="refused"', "owner, kind")): "{{owner}} {{kind}}"},
        ),
        stacked(
            "Decisions by mode",
            "reqps",
            "shared: decided in the store; local_share, open, closed: during an outage; memory: without a store.",
            {rate("lockgate_limit_decisions_total", "", "mode"): "{{mode}}"},
        ),
        stacked(
            "Calls by key",
            "reqps",
            "At most 200 keys by name; the others are shown as `other`.",
            {rate("lockgate_key_requests_total", KEY, "key"): "{{key}}"},
        ),
        stacked(
            "Calls by team",
            "reqps",
            "At most 100 teams by name. `none` stands for keys without a team.",
            {rate("lockgate_key_requests_total", KEY, "team"): "{{team}}"},
        ),
        stacked(
            "Cost by team",
            "currencyUSD",
            "Cost of the calls of the last hour, by team.",
            {rare(f"sum by (team) (increase(lockgate_key_cost_usd_total{{{KEY}}}[1h]))"): "{{team}}"},
        ),
        stacked(
            "Tokens by key",
            "short",
            "Prompt and output tokens per second.",
            {rate("lockgate_key_tokens_total", f'{KEY}, kind=~"prompt|output"', "key"): "{{key}}"},
        ),
        stacked(
            "Cost by key",
            "currencyUSD",
            "Cost of the calls of the last hour, by key.",
            {rare(f"sum by (key) (increase(lockgate_key_cost_usd_total{{{KEY}}}[1h]))"): "{{key}}"},
        ),
        Panel(
            "Budgets used",
            "percentunit",
            "The spent share of each budget, and the share that calls in flight reserve. Calls that would raise their sum above 1 are "
            "refused.",
            {
                rare("max by (owner, name) (lockgate_budget_used_ratio)"): "{{owner}} {{name}}",
                rare("max by (owner, name) (lockgate_budget_reserved_ratio)"): "{{owner}} {{name}} reserved",
            },
        ),
        stacked(
            "Cost by model",
            "currencyUSD",
            "Cost of the calls of the last hour; mirrored copies are shown separately.",
            {
                rare("sum by (model) (increase(lockgate_cost_usd_total[1h]))"): "{{model}}",
                rare("sum by (target) (increase(lockgate_mirror_cost_usd_total[1h]))"): "mirror {{target}}",
            },
        ),
        stacked(
            "Tokens by model and kind",
            "short",
            "Tokens per second; mirrored copies are shown separately.",
            {
                rate("lockgate_tokens_total", "", "model, kind"): "{{model}} {{kind}}",
                rare(rate("lockgate_mirror_tokens_total", "", "target, kind")): "mirror {{target}} {{kind}}",
            },
        ),
        Panel(
            "Tokens reported and estimated",
            "short",
            "Tokens per second, reported by the provider or estimated by the gateway.",
            {rate("lockgate_tokens_total", "", "source"): "{{source}}"},
        ),
        Panel(
            "Store",
            "reqps",
            "Scripts run in the store, and store errors by kind.",
            {rate("lockgate_store_commands_total"): "scripts", rare(rate("lockgate_store_errors_total", "", "kind")): "failed {{kind}}"},
        ),
    ),
    (("team", "lockgate_key_requests_total"), ("key", 'lockgate_key_requests_total{team=~"$team"}')),
)
