"""Who uses what, what it costs, and the store that counts."""

from __future__ import annotations

from panels import Dashboard, Panel, stacked, stat
from promql import ANY, BAD, KEY, rare, rate, share

SPEND = Dashboard(
    "limits-and-spend",
    "Limits and spend",
    "Who uses what: decisions on limits, tokens and money by key and by model, and the store that counts.",
    (
        stat(
            "Refused by a limit",
            "percentunit",
            "Share of decisions that refused a call.",
            share(rate("lockgate_limit_decisions_total", 'decision="refused"'), rate("lockgate_limit_decisions_total")),
            BAD,
        ),
        stat(
            "Store", "short", "Whether limits are shared through the store.", "min(lockgate_store_up)", words=(("1", "up"), ("0", "down"))
        ),
        stat(
            "Missing from the store",
            "short",
            "Processes that fell silent without a goodbye: for two minutes others leave them their share of each limit.",
            rare('max(lockgate_store_members{state="missing"})'),
            ANY,
        ),
        stat(
            "Decided without the store",
            "percentunit",
            "Share of decisions made while the store was out of reach.",
            share(rate("lockgate_limit_decisions_total", 'mode=~"local_share|open|closed"'), rate("lockgate_limit_decisions_total")),
            BAD,
        ),
        stat("Spend, last hour", "currencyUSD", "At list prices.", rare("sum(increase(lockgate_cost_usd_total[1h]))")),
        stat("Spend, last day", "currencyUSD", "At list prices.", rare("sum(increase(lockgate_cost_usd_total[1d]))")),
        stat(
            "Journal errors",
            "short",
            "Records of usage that could not be written in the last hour.",
            rare("sum(increase(lockgate_ledger_journal_errors_total[1h]))"),
            ANY,
        ),
        stacked(
            "Decisions",
            "reqps",
            "By whose limit decided and what it decided.",
            {rate("lockgate_limit_decisions_total", "", "owner, decision"): "{{owner}} {{decision}}"},
        ),
        Panel(
            "Refusals by kind",
            "reqps",
            "requests, tokens, concurrent or spend, and whose.",
            {rare(rate("lockgate_limit_decisions_total", 'decision="refused"', "owner, kind")): "{{owner}} {{kind}}"},
        ),
        stacked(
            "Decisions by mode",
            "reqps",
            "shared is the store; local_share, open and closed stand in while it is away; memory is one process alone.",
            {rate("lockgate_limit_decisions_total", "", "mode"): "{{mode}}"},
        ),
        stacked(
            "Calls by key",
            "reqps",
            "At most 200 keys by name, the others together.",
            {rate("lockgate_key_requests_total", KEY, "key"): "{{key}}"},
        ),
        stacked(
            "Tokens by key",
            "short",
            "Prompt and output tokens a second.",
            {rate("lockgate_key_tokens_total", f'{KEY}, kind=~"prompt|output"', "key"): "{{key}}"},
        ),
        stacked(
            "Cost by key",
            "currencyUSD",
            "In an hour, at list prices.",
            {rare(f"sum by (key) (increase(lockgate_key_cost_usd_total{{{KEY}}}[1h]))"): "{{key}}"},
        ),
        Panel(
            "Budgets used",
            "percentunit",
            "Spent or reserved by calls in flight; at 1 calls are refused until the next day or month.",
            {rare("max by (owner, name) (lockgate_budget_used_ratio)"): "{{owner}} {{name}}"},
        ),
        stacked(
            "Cost by model",
            "currencyUSD",
            "In an hour, at list prices; copies for a mirror beside the calls that they copy.",
            {
                rare("sum by (model) (increase(lockgate_cost_usd_total[1h]))"): "{{model}}",
                rare("sum by (target) (increase(lockgate_mirror_cost_usd_total[1h]))"): "mirror {{target}}",
            },
        ),
        stacked(
            "Tokens by model and kind",
            "short",
            "Tokens a second; a mirror's copies apart.",
            {
                rate("lockgate_tokens_total", "", "model, kind"): "{{model}} {{kind}}",
                rare(rate("lockgate_mirror_tokens_total", "", "target, kind")): "mirror {{target}} {{kind}}",
            },
        ),
        Panel(
            "Tokens reported and estimated",
            "short",
            "Estimated where a provider reports none.",
            {rate("lockgate_tokens_total", "", "source"): "{{source}}"},
        ),
        Panel(
            "Store",
            "reqps",
            "Scripts run in the store, and failures by kind.",
            {rate("lockgate_store_commands_total"): "scripts", rare(rate("lockgate_store_errors_total", "", "kind")): "failed {{kind}}"},
        ),
    ),
    (("key", "lockgate_key_requests_total"),),
)
