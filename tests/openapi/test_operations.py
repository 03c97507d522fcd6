"""Operations of the admin listener."""

from __future__ import annotations

from gateway.openapi.operations import operation_of, query_of


def test_operation_has_its_answer_its_errors_and_its_body() -> None:
    operation = operation_of("Do it", "Done", frozenset({400}), body="Order", status="201")
    assert operation["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Done"}
    assert set(operation["responses"]) == {"201", "400"}
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Order"}
    assert "requestBody" not in operation_of("Do it", "Done", frozenset())


def test_query_parameters_are_optional_and_may_be_named_like_keywords() -> None:
    (parameter,) = query_of(from_={"type": "string"})
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("from", "query", False)
