"""Generates docs/providers.md from the parameter rules: `python -m providers.table > docs/providers.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import providers
from providers.anthropic.schemas import FormatAsOutputConfig
from providers.embedding_table import EMBEDDINGS
from providers.media.table import listed_rules
from providers.message_tables import ROWS
from providers.openai_compatible import OpenAICompatible
from providers.rerank_table import RERANKS
from providers.rules.message_capabilities import MESSAGE_FIELDS, any_of, conversation_notes
from providers.rules.rule import CANONICAL_PARAMS, ForModels
from providers.rules.schema_capabilities import dialect_notes
from providers.rules.schema_dialect import Dialect
from providers.rules.schemas import StrictFormat

Entry = Mapping[str, Any]

HEAD = """# Providers

This page shows which parameters each provider accepts and what the gateway does with the others. It is generated from
the parameter rules by `python -m providers.table`, and a test compares this page with the rules.

| symbol | meaning |
| --- | --- |
| ✓ | accepted as sent; values outside the supported range are clamped and reported, or rejected with a 400 in strict mode |
| ~ | adjusted: sent under another name or in another form, or carried out by the gateway |
| – | not supported: dropped and reported in `x-gateway-adjusted`; in strict mode rejected with a 400, unless the value has no effect |
| ✗ | rejected with a 400 in both modes |
| → | forwarded without checks |
| * | the section of the provider has a note on this parameter |
"""

MESSAGES_HEAD = (
    "## Fields of messages and tools",
    "",
    "This table lists the fields that only some providers accept. A field that is not supported is dropped and reported,",
    "or rejected in strict mode. Fields without a value (null, an empty list) and the index of a tool call are left out in",
    "both modes if the provider does not support them, because nothing is lost.",
    "",
)
CONVERSATIONS_HEAD = (
    "## Conversations",
    "",
    "This table shows what each provider requires of a conversation as a whole. The gateway repairs a conversation where",
    "it can, and reports each change; strict mode rejects changes that lose something. Other conversations are rejected",
    "with a 400 before anything is sent. For all providers, tool results are moved directly after their calls, and",
    "`image/jpg` is sent as `image/jpeg`.",
    "",
)

SCHEMAS_HEAD = (
    "## Schemas",
    "",
    "This table shows the dialect of JSON Schema that each provider documents for structured output. The gateway",
    "rewrites a schema into this dialect, checks the answer against the caller's own schema if the provider does not",
    "enforce all of it, and reports both. Schemas of functions with `strict: true` are treated in the same way. If no",
    "dialect of a provider is known, its schemas are sent as they are, or described in an instruction if the provider has",
    "no such format.",
    "",
)

SYMBOLS = {"yes": "✓", "adjusted": "~", "no": "–", "passed": "→", "refused": "✗"}
WORDS = {"yes": "accepted", "adjusted": "adjusted", "no": "dropped", "passed": "forwarded", "refused": "rejected"}
ACTIONS = {
    "enforce_locally": "handled by the gateway",
    "fan_out": "several upstream requests",
    "reshape": "converted to the provider's format",
}
UNKNOWN = {
    "drop": "dropped and reported",
    "pass": "forwarded unchanged",
    "new": "forwarded unchanged, unless another provider defines them",
}

GROUPS = {
    "Request": "model messages system_prompt stream stream_options n user",
    "Sampling": (
        "temperature top_p top_k min_p typical_p frequency_penalty presence_penalty repetition_penalty seed logit_bias "
        "mirostat mirostat_target mirostat_lr xtc_threshold xtc_probability"
    ),
    "Output length and stop": (
        "max_tokens max_completion_tokens min_tokens min_completion_tokens stop include_stop_str_in_output eos_token ignore_eos "
        "echo prompt_truncate_len context_length_exceeded_behavior timeout_microseconds"
    ),
    "Tools and output format": (
        "tools tool_choice parallel_tool_calls functions function_call response_format logprobs top_logprobs modalities audio "
        "prediction verbosity web_search_options filter_vocabulary"
    ),
    "Reasoning": (
        "reasoning_effort reasoning_budget reasoning_format include_reasoning disable_reasoning clear_thinking thinking "
        "chat_template_kwargs"
    ),
    "Service and identity": (
        "service_tier prompt_cache_key prompt_cache_isolation_key safety_identifier safe_prompt metadata store team controller "
        "idempotency_key perf_metrics_in_response cf_ray x_amz_cf_id x_delay_time"
    ),
}
"""The parameters of each matrix, in order."""


def page() -> str:
    """Return the page as Markdown."""
    sections = (line for kind in providers.OURS for line in _section(kind))
    return "\n".join([HEAD, *_operations(), *_matrices(), *_message_tables(), *_schemas(), *sections])


def _provider(kind: str) -> OpenAICompatible:
    provider = providers.get(kind)
    assert isinstance(provider, OpenAICompatible)
    return provider


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def _links() -> list[str]:
    return [f"[{kind}](#{kind})" for kind in providers.OURS]


def _operations() -> list[str]:
    operations = sorted({operation for kind in providers.OURS for operation in _provider(kind).wire.paths})
    rows = [[link, *("✓" if name in _provider(kind).wire.paths else "" for name in operations)]
            for kind, link in zip(providers.OURS, _links(), strict=True)]  # fmt: skip
    note = (
        "This table shows the APIs that each provider offers. Callers can use most of the other APIs as well: the gateway emulates\n"
        "`completions` with `chat`, and also `logits` if the provider accepts `logprobs`, and it translates calls of `messages`,\n"
        "`responses`, `cohere_chat` and `cohere_embed`. Calls of `embeddings` and `rerank` skip the targets without them."
    )
    return ["## Upstream APIs", "", note, "", *_table(["provider", *operations], rows), *_embeddings(), *_rerank(), *_media()]


def _embeddings() -> list[str]:
    rows = []
    for kind, row in sorted(EMBEDDINGS.items()):
        most = str(row.max_inputs or "") + (f", {row.max_tokens} tokens" if row.max_tokens else "")
        tokens = {0: "", 1: "one array"}.get(-1 if row.max_token_arrays is None else row.max_token_arrays, "✓")
        length = f"`{row.dimensions}`" if row.dimensions else ""
        length += f": {', '.join(map(str, row.dimension_values))}" if row.dimension_values else ""
        rows.append([f"[{kind}](#{kind})", most, tokens, length, ", ".join(row.formats), f"{row.source} ({row.as_of})"])
    note = (
        "This table shows the inputs, dimensions and encodings that embeddings requests may have. Longer lists of inputs are\n"
        "sent in several requests; vectors in another encoding are converted. A request whose `dimensions` or token ids a\n"
        "provider cannot honour goes to the next target, or is rejected with a 400."
    )
    header = ["provider", "inputs per request", "token ids", "dimensions", "encodings", "source"]
    return ["## Embeddings", "", note, "", *_table(header, rows)]


def _rerank() -> list[str]:
    rows = []
    for kind, row in sorted(RERANKS.items()):
        fields = ", ".join(f"`{name}`" for name in row.accepts.split())
        rows.append([f"[{kind}](#{kind})", str(row.max_documents or ""), fields, f"{row.source} ({row.as_of})"])
    note = (
        "This table shows the number of documents and the fields that rerank requests may have, besides `model`, `query`,\n"
        "`documents` and `top_n`. A request with more documents goes to the next target, or is rejected with a 400."
    )
    return ["## Rerank", "", note, "", *_table(["provider", "documents per request", "further fields", "source"], rows)]


def _media() -> list[str]:
    sizes = ((512, 512), (1024, 1024), (4032, 3024))
    rows = []
    for kind, models, rules in listed_rules():
        images = [f"{rules.image.tokens(size, None):,}" for size in sizes]
        rows.append([kind, models, *images, f"{rules.audio:g}", f"{rules.page_tokens():,}", rules.source])
    note = (
        "This table shows how many tokens the gateway counts in advance for an image, a second of audio and a page of a PDF\n"
        "document, as of 2026-11-29: the vendor's published number, or an upper bound where there is none. `azure` is counted\n"
        "like `openai`, and a model at OpenRouter like those of the vendor before the slash. The size of an image is read from\n"
        "its header. An image at an address that only the provider loads counts as the largest possible one, a recording as 10\n"
        "minutes, and a document as 20 pages."
    )
    header = ["provider", "models", *(f"{width} x {height}" for width, height in sizes), "second of audio", "page", "source"]
    return ["## Images, audio and documents", "", note, "", *_table(header, rows)]


def _matrices() -> Iterator[str]:
    tables = {kind: _provider(kind).capabilities("") for kind in providers.OURS}
    common = _common_notes()
    yield "## Chat parameters"
    yield ""
    yield "For all providers, " + " and ".join(f"`{name}` is {note}" for name, note in common.items()) + "."
    yield ""
    for title, names in GROUPS.items():
        yield f"### {title}"
        yield ""
        rows = [[f"`{name}`", *(_cell(name, table.get(name), common) for table in tables.values())] for name in names.split()]
        yield from _table(["parameter", *_links()], rows)


def _message_tables() -> Iterator[str]:
    tables = {kind: _provider(kind).capabilities("") for kind in providers.OURS}
    yield from MESSAGES_HEAD
    rows = [[f"`{name}`", *(SYMBOLS[_support(table[name])] for table in tables.values())] for name in MESSAGE_FIELDS]
    yield from _table(["field", *_links()], rows)
    yield "Fields that are not sent as they are:"
    yield ""
    yield from _table(["provider", "field", "sent as"], [
        [kind, f"`{name}`", f"`{table[name]['to']}`"] for kind, table in tables.items() for name in MESSAGE_FIELDS if "to" in table[name]
    ])  # fmt: skip
    yield from CONVERSATIONS_HEAD
    yield from _table(["provider", "rules", "source"], [
        [kind, "; ".join(conversation_notes(row)) or "none", f"{row.source} ({row.as_of})"] for kind, row in sorted(ROWS.items())
    ])  # fmt: skip


def _schemas() -> Iterator[str]:
    yield from SCHEMAS_HEAD
    dialects = {kind: _dialect(_provider(kind)) for kind in providers.OURS}
    yield from _table(["provider", "rules", "source"], [
        [kind, "; ".join(dialect_notes(dialect)), f"{dialect.source} ({dialect.as_of})"] if dialect else [kind, "none known", ""]
        for kind, dialect in sorted(dialects.items())
    ])  # fmt: skip


def _dialect(provider: OpenAICompatible) -> Dialect | None:
    """Return the dialect of a provider's structured output, or None if none is known."""
    return next((rule.dialect for rule in provider.rules if isinstance(rule, StrictFormat | FormatAsOutputConfig)), None)


def _common_notes() -> dict[str, str]:
    """Return the notes that are the same for all providers, by parameter."""
    tables = [_provider(kind).capabilities("") for kind in providers.OURS]
    notes = {name: {_note(table[name]) if name in table else "" for table in tables} for names in GROUPS.values() for name in names.split()}
    return {name: min(found) for name, found in notes.items() if len(found) == 1 and found != {""}}


def _cell(name: str, entry: Entry | None, common: Mapping[str, str]) -> str:
    """Return the symbol for one parameter. A provider without a rule for it accepts it as sent."""
    if entry is None:
        return SYMBOLS["yes"]
    return SYMBOLS[_support(entry)] + ("\\*" if _note(entry) and name not in common else "")


def _support(entry: Entry) -> str:
    return "refused" if entry.get("refused") else str(entry["support"])


def _section(kind: str) -> Iterator[str]:
    provider = _provider(kind)
    wire = provider.wire
    table = provider.capabilities("")
    yield f"## {kind}"
    yield ""
    base = f"`{wire.base_url}`" if wire.base_url else "none; `base_url` is required"
    yield f"- name: {wire.label}; `type: {kind}`"
    yield f"- address: {base}; paths: {', '.join(f'{name} `{path}`' for name, path in wire.paths.items())}"
    yield f"- credential: {'required' if wire.needs_credential else 'optional'}"
    settings = [name for name in getattr(wire.options, "__struct_fields__", ()) if name != "max_fanout"]
    if settings:
        yield f"- settings: {', '.join(f'`{name}`' for name in settings)}"
    if provider.caller_headers:
        yield f"- request headers forwarded: {', '.join(f'`{name}`' for name in provider.caller_headers)}"
    own = [f"`{name}`" for name, entry in table.items() if name not in _listed() and "[" not in name and entry["support"] == "yes"]
    if own:
        yield f"- further parameters accepted: {', '.join(own)}"
    yield f"- other parameters: {UNKNOWN[wire.unknown]}"
    if wire.source:
        yield f"- source: {wire.source}"
    yield ""
    hidden = _common_notes()
    notes = [
        [f"`{name}`", WORDS[_support(entry)], _note(entry)]
        for name, entry in table.items()
        if name in _listed() and name not in hidden and _note(entry)
    ]
    yield from _table(["parameter", "support", "note"], notes)
    families = [row for rule in provider.rules if isinstance(rule, ForModels) for row in _family(provider, rule, table)]
    if families:
        yield "Differences between models:"
        yield ""
        yield from _table(["models", "support", "parameters"], families)


def _listed() -> frozenset[str]:
    return frozenset(name for names in GROUPS.values() for name in names.split()) | CANONICAL_PARAMS


def _family(provider: OpenAICompatible, rule: ForModels, general: Mapping[str, Any]) -> Iterator[list[str]]:
    table = provider.capabilities(rule.prefixes[0])
    models = ", ".join(f"`{prefix}…`" for prefix in rule.prefixes)
    changed: dict[str, list[str]] = {}
    for name, entry in table.items():
        if entry != general.get(name):
            note = _note(entry)
            changed.setdefault(WORDS[_support(entry)], []).append(f"`{name}` ({note})" if note else f"`{name}`")
    for support, parameters in changed.items():
        yield [models, support, ", ".join(parameters)]


def _note(entry: Entry) -> str:
    notes: list[str] = []
    if entry["support"] == "no":
        return ""
    if "to" in entry:
        notes.append(f"sent as `{entry['to']}`")
    elif "action" in entry:
        notes.append(ACTIONS.get(entry["action"], str(entry["action"]).replace("_", " ")))
    if "min" in entry or "max" in entry:
        notes.append(_range(entry))
    if entry.get("values"):
        notes.append(", ".join(f"`{value}`" for value in entry["values"]))
    for key, words in (("max_items", "at most {} entries"), ("default", "default `{}`"), ("needs", "requires `{}`"), ("advice", "{}")):
        if key in entry:
            notes.append(words.format(entry[key]))
    if "excludes" in entry:
        notes.append("not together with " + any_of(f"`{name}`" for name in entry["excludes"]))
    for key in ("roles", "content"):
        if key in entry:
            notes.append(f"{key}: {', '.join(entry[key])}")
    return "; ".join(notes).replace("|", "\\|")


def _range(entry: Entry) -> str:
    if "max" not in entry:
        return f"from {entry['min']:g}"
    return f"up to {entry['max']:g}" if "min" not in entry else f"{entry['min']:g} to {entry['max']:g}"


if __name__ == "__main__":
    sys.stdout.write(page())
