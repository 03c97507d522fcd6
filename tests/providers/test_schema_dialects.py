"""providers.rules.schemas: strict schemas in each vendor's dialect are rewritten, described in words, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.json_mode import adapt as adapt_json
from providers import schema_dialects
from providers.base import Body, Options, Refusal
from providers.mistral import MISTRAL
from providers.rules.schema_capabilities import dialect_notes
from providers.rules.schema_dialect import Dialect, NotExpressibleError, Simplifier
from providers.rules.schemas import CHECKED_ARGUMENTS
from tests.providers.adapting import Adapted, adapt, adapt_with, target_for

OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
ROOTS: dict[str, Any] = {
    "array": {"type": "array", "items": {"type": "string"}},
    "string": {"type": "string"},
    "null": {"type": ["object", "null"], "properties": {}},
}
STRICT_ROOTS = ["openai", "azure", "groq"]
"""Providers whose strict mode accepts only objects at the root."""


def requested(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    """Return a request for structured output."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": strict, "schema": schema}}}


def property_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an object with one required property."""
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


def schema_sent(adapted: Adapted) -> Any:
    """Return the schema that the vendor gets."""
    return adapted.sent["response_format"]["json_schema"]["schema"]


def simplified(dialect: Dialect, schema: Any) -> Any:
    """Return a schema in a dialect."""
    return Simplifier(dialect).simplify(schema)


def test_every_dialect_has_a_source_and_a_date() -> None:
    found = [value for value in vars(schema_dialects).values() if isinstance(value, Dialect)]
    assert len(found) >= 8
    assert all(dialect.source and dialect.as_of >= "2026-11" for dialect in found)
    assert MISTRAL.wire.label == "Mistral"


def test_the_notes_on_a_dialect_name_its_rules() -> None:
    notes = dialect_notes(schema_dialects.XAI_SCHEMAS)
    assert "applies to all schemas" in notes
    assert "unsupported keywords: `maxContains`, `minContains`" in notes
    assert "every object gets" not in notes
    assert dialect_notes(schema_dialects.GEMINI_SCHEMAS)[-2].startswith("keywords that are not guaranteed are sent")


def test_tools_in_the_dialect_are_examined_once() -> None:
    tool = {"type": "function", "function": {"name": "seen", "parameters": OBJECT}}
    bad = {"type": "function", "function": {"name": "bad", "parameters": property_of({"enum": []})}}
    for _ in range(2):
        assert adapt("xai", {"tools": [tool]}, model="grok-3").adjustments == []
        assert ("tools[0].function.parameters", "reshape") in adapt("xai", {"tools": [bad]}, model="grok-3").actions()


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", STRICT_ROOTS)
def test_a_root_that_is_not_an_object_is_asked_for_in_words_and_refused_in_strict_mode(kind: str, root: str) -> None:
    schema = ROOTS[root]
    target = target_for(kind)
    body = Body(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    body.set("response_format", requested(schema)["response_format"])
    sent, adjustments, validator = adapt_json(body, target, Options())
    assert "response_format" not in sent
    assert "JSON Schema" in sent.get("messages")[0]["content"]
    assert validator is not None
    assert validator.format.find_error('"x"') is None or root in ("array", "null")
    assert ("response_format", "drop") in {(item.param, item.action) for item in adjustments}
    with pytest.raises(Refusal) as refused:
        adapt(kind, requested(schema), strict=True)
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("schema", [True, {}, None])
@pytest.mark.parametrize("kind", STRICT_ROOTS)
def test_a_root_that_allows_everything_is_sent_as_any_object(kind: str, schema: Any) -> None:
    adapted = adapt(kind, requested(schema), strict=True)
    sent = adapted.sent["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (False, {"type": "object", "properties": {}})
    assert ("response_format", "enforce_locally") in adapted.actions()


@pytest.mark.parametrize("kind", STRICT_ROOTS)
def test_a_union_at_the_root_is_merged_and_the_answer_checked(kind: str) -> None:
    branches = [property_of({"type": "string"}), {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}]
    for strict in (False, True):
        adapted = adapt(kind, requested({"anyOf": branches}), strict=strict)
        sent = adapted.sent["response_format"]["json_schema"]
        assert (sent["strict"], sent["schema"]["type"], sorted(sent["schema"]["properties"])) == (False, "object", ["a", "b"])
        assert ("response_format", "enforce_locally") in adapted.actions()


@pytest.mark.parametrize("kind", STRICT_ROOTS)
def test_a_reference_at_the_root_is_resolved(kind: str) -> None:
    adapted = adapt(kind, requested({"$ref": "#/$defs/A", "$defs": {"A": OBJECT}}), strict=True)
    assert schema_sent(adapted) == {**OBJECT, "$defs": {"A": OBJECT}}
    assert adapted.sent["response_format"]["json_schema"]["strict"] is True
    assert ("response_format", "reshape") in adapted.actions()


@pytest.mark.parametrize("kind", ["openai", "azure", "groq", "cerebras", "mistral", "gemini", "xai"])
def test_a_schema_in_the_dialect_passes_unchanged(kind: str) -> None:
    adapted = adapt(kind, requested(OBJECT), strict=True)
    assert adapted.sent["response_format"] == requested(OBJECT)["response_format"]
    assert [item for item in adapted.adjustments if item.param == "response_format" and item.action != "warn"] == []


@pytest.mark.parametrize("kind", ["openai", "vllm", "fireworks", "together", "openrouter", "openai-compatible", "ollama"])
def test_true_is_sent_as_an_empty_schema(kind: str) -> None:
    adapted = adapt(kind, requested(True, strict=False), strict=True)
    assert schema_sent(adapted) == {}
    assert ("response_format.json_schema.schema", "reshape") in adapted.actions()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "array", "items": [{"type": "string"}]}, {"type": "array", "prefixItems": [{"type": "string"}]}),
        (
            {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
            {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
        ),
        ({"enum": []}, {"not": {}}),
        ({"anyOf": []}, {"not": {}}),
        (True, {}),
        (False, {"not": {}}),
        ({"type": "array", "contains": {"type": "string"}, "maxContains": 2}, {"type": "array", "contains": {"type": "string"}}),
        ({"type": "string", "pattern": "(?=a)b"}, {"type": "string"}),
        ({"type": "string", "pattern": "(?:a)b"}, {"type": "string", "pattern": "(?:a)b"}),
        ({"type": "string", "pattern": r"\p{L}"}, {"type": "string"}),
        ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": True}),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_xai_gets_no_schema_that_it_rejects(before: Any, after: Any, strict: bool) -> None:
    adapted = adapt("xai", requested(property_of(before), strict=strict), model="grok-3", strict=True)
    assert schema_sent(adapted) == property_of(after)
    tool = {"type": "function", "function": {"name": "f", "parameters": property_of(before)}}
    assert adapt("xai", {"tools": [tool]}, model="grok-3").sent["tools"][0]["function"]["parameters"] == property_of(after)


@pytest.mark.parametrize(
    "schema",
    [{"not": {"type": "string"}}, {"allOf": [{}, {}]}, {"type": "string", "format": "hostname"}, {"type": "string", "maxLength": 3000}],
)
def test_xai_does_not_guarantee_some_keywords_so_the_answer_is_checked(schema: dict[str, Any]) -> None:
    adapted = adapt("xai", requested(property_of(schema)), model="grok-3", strict=True)
    assert schema_sent(adapted) == property_of(schema)
    assert ("response_format", "enforce_locally") in adapted.actions()


def test_a_recursive_schema_is_asked_for_in_words_at_xai_and_without_strict_at_cerebras() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}, "required": ["next"], "additionalProperties": False}
    schema = {"$ref": "#/$defs/N", "$defs": {"N": node}}
    assert ("response_format", "drop") in adapt("xai", requested(schema), model="grok-3").actions()
    adapted = adapt("cerebras", requested(schema), strict=True)
    assert adapted.sent["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("types", "after"),
    [
        (["string", "null"], {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (["integer", "string"], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    ],
)
def test_a_list_of_types_becomes_a_union_at_cerebras(types: list[str], after: dict[str, Any]) -> None:
    adapted = adapt("cerebras", requested(property_of({"type": types, "description": "d"})), strict=True)
    assert schema_sent(adapted) == property_of({"description": "d", **after})


def test_an_enum_without_null_gets_no_branch_for_it() -> None:
    schema = property_of({"type": ["string", "null"], "enum": ["a"]})
    assert simplified(schema_dialects.CEREBRAS_SCHEMAS, schema) == property_of({"anyOf": [{"type": "string", "enum": ["a"]}]})


def test_gemini_ignores_some_keywords_so_the_answer_is_checked() -> None:
    schema = property_of({"type": "string", "minLength": 2, "default": "x"})
    adapted = adapt("gemini", requested(schema), model="gemini-3-pro", strict=True)
    assert schema_sent(adapted) == schema
    (note,) = [item for item in adapted.adjustments if item.action == "enforce_locally"]
    assert "minLength" in note.why
    assert "default" not in note.why


def test_mistral_gets_closed_objects_and_no_schema_annotations_in_tools() -> None:
    open_object = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert schema_sent(adapt("mistral", requested(open_object), strict=True)) == {**open_object, "additionalProperties": False}
    names = requested({"type": "object", "additionalProperties": {"type": "string"}})
    assert adapt("mistral", names).sent["response_format"]["json_schema"]["strict"] is False
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$schema": "s", "$id": "i", **OBJECT}}}
    adapted = adapt("mistral", {"tools": [tool]}, strict=True)
    assert adapted.sent["tools"][0]["function"]["parameters"] == OBJECT
    assert ("tools[0].function.parameters.$schema", "drop") in adapted.actions()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("minimum", 1), ("exclusiveMaximum", 1), ("maxItems", 3), ("minLength", 1), ("uniqueItems", True), ("pattern", "^a$"),
        ("format", "email"),
    ],
)
def test_cohere_gets_no_keyword_that_it_does_not_support(keyword: str, value: Any) -> None:
    adapted = adapt("cohere", requested(property_of({"type": "string", keyword: value}), strict=False), strict=True)
    assert adapted.sent["response_format"]["json_schema"]["properties"]["a"] == {"type": "string"}
    (note,) = [item for item in adapted.adjustments if item.action == "enforce_locally"]
    assert keyword in note.why


@pytest.mark.parametrize("schema", [{}, {"type": "array"}, {"type": "object"}, {"type": "object", "properties": {"a": {"type": "string"}}}])
def test_cohere_requires_an_object_with_a_required_property(schema: dict[str, Any]) -> None:
    adapted = adapt("cohere", requested(schema, strict=False))
    assert "response_format" not in adapted.sent
    assert ("response_format", "drop") in adapted.actions()


@pytest.mark.parametrize("items", [{}, {"description": "d"}, {"not": {"type": "string"}}])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_schema_without_a_type_cannot_be_enforced(kind: str, items: dict[str, Any]) -> None:
    schema = property_of({"type": "array", "items": items})
    model = "claude-opus-5" if kind == "anthropic" else "gpt-4.1"
    adapted = adapt(kind, requested(schema), model=model)
    if kind == "openai":
        assert adapted.sent["response_format"]["json_schema"]["strict"] is False
    else:
        assert "format" not in adapted.sent.get("output_config", {})
    with pytest.raises(NotExpressibleError):
        simplified(schema_dialects.OPENAI_SCHEMAS, schema)


TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": property_of({"type": "integer", "minimum": 1})}}


@pytest.mark.parametrize(
    ("kind", "model", "checked"),
    [
        ("openai", "gpt-4.1", False), ("azure", "d", False), ("cerebras", "m", False), ("xai", "grok-3", False), ("groq", "m", False),
        ("anthropic", "claude-sonnet-4-5", True), ("cohere", "m", True), ("friendli", "m", True), ("gemini", "gemini-3-pro", True),
        ("mistral", "m", True), ("deepseek", "deepseek-chat", True), ("fireworks", "m", True), ("together", "m", True), ("vllm", "m", True),
        ("llamacpp", "m", True), ("ollama", "m", True), ("siati", "m", True), ("openrouter", "m", True), ("openai-compatible", "m", False),
    ],
)  # fmt: skip
def test_arguments_are_checked_where_the_vendor_does_not_enforce_the_schema(kind: str, model: str, checked: bool) -> None:
    options = Options()
    adapted = adapt_with(kind, {"tools": [TOOL]}, options, model=model)
    assert options.memo.get(CHECKED_ARGUMENTS, frozenset()) == ({"f"} if checked else frozenset())
    told = {item.action for item in adapted.adjustments if item.param.startswith("tools[0].function")}
    assert bool(told & {"enforce_locally", "drop"}) == checked


def test_a_strict_tool_that_the_dialect_cannot_express_is_checked() -> None:
    options = Options(strict=True)
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {**OBJECT, "required": []}}}
    adapted = adapt_with("openai", {"tools": [tool]}, options)
    assert "strict" not in adapted.sent["tools"][0]["function"]
    assert options.memo[CHECKED_ARGUMENTS] == {"f"}
    assert ("tools[0].function.strict", "enforce_locally") in adapted.actions()


@pytest.mark.parametrize("parameters", ["absent", None])
@pytest.mark.parametrize("kind", ["mistral", "friendli", "cohere"])
def test_functions_state_their_parameters_where_they_must(kind: str, parameters: Any) -> None:
    function = {"name": "f"} if parameters == "absent" else {"name": "f", "parameters": parameters}
    adapted = adapt(kind, {"tools": [{"type": "function", "function": function}]}, strict=True)
    assert adapted.sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert ("tools[0].function.parameters", "set_default") in adapted.actions()


@pytest.mark.parametrize("kind", ["openai", "groq", "gemini", "xai", "vllm"])
def test_parameters_that_are_null_are_left_out(kind: str) -> None:
    adapted = adapt(kind, {"tools": [{"type": "function", "function": {"name": "f", "parameters": None}}]}, strict=True)
    assert "parameters" not in adapted.sent["tools"][0]["function"]
    assert ("tools[0].function.parameters", "drop") in adapted.actions()


KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "object", "array", ["string", "null"], ["object", "null"]]),
        "enum": st.sampled_from([[], ["a"], ["a", None]]),
        "minLength": st.integers(0, 3000),
        "pattern": st.sampled_from(["^a$", "(?=b)", r"\bc", "d"]),
        "format": st.sampled_from(["date", "hostname"]),
        "maxContains": st.just(2),
        "$anchor": st.just("a"),
        "additionalProperties": st.sampled_from([True, False, {"type": "string"}]),
        "additionalItems": st.sampled_from([False, {"type": "string"}]),
        "required": st.sampled_from([["a"], ["a", "b"], []]),
    },
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=2)
    nested = st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner | st.booleans(), max_size=2),
            "items": inner | several,
            "anyOf": several,
            "oneOf": several,
            "allOf": several,
            "not": inner,
        },
    )
    return st.tuples(KEYWORDS, nested).map(lambda pair: {**pair[0], **pair[1]})


SCHEMAS = st.recursive(KEYWORDS, _larger, max_leaves=6)
STRICT_OBJECTS = SCHEMAS.map(property_of)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema in a schema."""
    if isinstance(schema, dict):
        yield schema
        for name, value in schema.items():
            inner = list(value.values()) if name == "properties" else value if isinstance(value, list) else [value]
            for each in inner if name not in ("enum", "required", "type") else ():
                yield from nodes(each)


def written(dialect: Dialect, schema: Any) -> list[dict[str, Any]]:
    """Return every schema in the request, or nothing if the dialect cannot express it."""
    try:
        return list(nodes(Simplifier(dialect).simplify(schema)))
    except NotExpressibleError:
        return []


@given(schema=STRICT_OBJECTS)
def test_any_schema_for_xai_has_nothing_that_it_rejects(schema: Any) -> None:
    for node in written(schema_dialects.XAI_SCHEMAS, schema):
        assert node.get("enum") != []
        assert node.get("anyOf") != []
        assert "maxContains" not in node
        assert not isinstance(node.get("items"), list)
        assert not any(isinstance(child, bool) for child in node.get("properties", {}).values())
        assert "(?=" not in node.get("pattern", "")


@given(schema=STRICT_OBJECTS)
def test_any_schema_for_cohere_has_only_supported_keywords(schema: Any) -> None:
    for node in written(schema_dialects.COHERE_SCHEMAS, schema):
        assert not {"allOf", "oneOf", "not", "minLength"} & set(node)
        assert node.get("format") != "hostname"
        assert "type" not in node or node["type"] != "object" or node.get("required")


@given(schema=STRICT_OBJECTS)
def test_any_schema_for_cerebras_has_no_list_of_types(schema: Any) -> None:
    for node in written(schema_dialects.CEREBRAS_SCHEMAS, schema):
        assert not isinstance(node.get("type"), list)
        assert "$anchor" not in node
        assert node.get("type") != "object" or node["additionalProperties"] is False


@given(schema=STRICT_OBJECTS)
def test_any_schema_for_openai_is_closed_typed_and_complete(schema: Any) -> None:
    for node in written(schema_dialects.OPENAI_SCHEMAS, schema):
        assert {"type", "$ref", "enum", "const", "anyOf"} & set(node)
        assert not {"allOf", "oneOf", "not", "minLength", "maxContains"} & set(node)
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert set(node.get("properties", {})) <= set(node.get("required", []))
