"""The arrows of the layout: who may import whom, held by reading every module's imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import providers

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])
STAGES = {"dialects", "auth", "normalize", "routing", "context", "fanout", "stops", "limits", "health", "upstream", "relay", "accounting"}
"""The stages of a call; pipeline.py joins them."""
NETWORK = {"asyncio", "socket", "ssl", "urllib.request", "httpx", "httptools", "uvloop", "uvicorn", "starlette", "redis", "requests"}


def module_name(path: Path) -> str:
    """`gateway/upstream/pool.py` is gateway.upstream.pool; a package is its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """The modules that a file imports, by full name; those for type checking alone are left out `at_run_time`."""
    found: set[str] = set()
    nodes = _without_type_checking(ast.parse(path.read_text())) if at_run_time else ast.walk(ast.parse(path.read_text()))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found


def _without_type_checking(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    nodes = [tree]
    for node in nodes:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)
    return nodes


def stage_of(module: str) -> str | None:
    """The stage that a module belongs to, if any."""
    parts = module.split(".")
    return parts[1] if parts[0] == "gateway" and len(parts) > 1 and parts[1] in STAGES else None


def arrows(prefix: str, *, at_run_time: bool = False) -> list[tuple[str, str]]:
    """Every (importer, imported) among our own modules whose importer starts with `prefix`."""
    return [
        (module, target)
        for module, path in MODULES.items()
        if module.split(".")[0] == prefix
        for target in sorted(imports(path, at_run_time=at_run_time))
        if target.split(".")[0] in {"gateway", "providers"}
    ]


def test_providers_never_import_the_gateway() -> None:
    assert [arrow for arrow in arrows("providers") if arrow[1].startswith("gateway")] == []


def test_stages_do_not_import_each_other() -> None:
    crossing = [(one, other) for one, other in arrows("gateway") if stage_of(one) and stage_of(other) and stage_of(one) != stage_of(other)]
    # a place is a target with the transport that leads there, a key carries its limits: the words alone
    allowed = {("routing", "upstream"), ("auth", "limits")}
    assert [arrow for arrow in crossing if (stage_of(arrow[0]), stage_of(arrow[1])) not in allowed] == []
    assert {other for one, other in crossing if stage_of(one) == "routing"} <= {"gateway.upstream.transport"}
    assert {other for one, other in crossing if stage_of(one) == "auth"} <= {"gateway.limits.types"}


def test_what_travels_through_the_stages_needs_none_of_them() -> None:
    below = {"gateway.errors", "gateway.call"}
    assert [(one, other) for one, other in arrows("gateway", at_run_time=True) if one in below and stage_of(other)] == []


@pytest.mark.parametrize("module", ["gateway.__main__", "gateway.serve", "gateway.app", "gateway.pipeline"])
def test_no_stage_and_nothing_below_imports_the_program(module: str) -> None:
    below = {"call", "errors", "config", "metrics", "receipt", "sse"} | STAGES
    assert [one for one, other in arrows("gateway") if other == module and one.split(".")[1] in below] == []


def vendor_of(module: str) -> str | None:
    """The vendor whose file this is: `providers.anthropic_messages` is anthropic's, `providers.rules` nobody's."""
    parts = module.split(".")
    vendors = {name.replace("-", "_") for name in providers.types()} - {"openai"}
    owners = [vendor for vendor in vendors if parts[0] == "providers" and len(parts) > 1 and re.match(rf"{vendor}(_|$)", parts[1])]
    return max(owners, key=len, default=None)


def test_no_vendor_knows_another() -> None:
    """Everyone may use the contract, the rules and OpenAI's wire; what two vendors share belongs to neither."""
    assert {vendor_of(module) for module in MODULES} >= {"local", "vllm", "ollama", "llamacpp"}
    owned = [(one, other, vendor_of(one), vendor_of(other)) for one, other in arrows("providers")]
    assert [(one, other) for one, other, importer, imported in owned if imported and importer != imported] == []


def test_the_contract_imports_no_other_module_of_ours() -> None:
    assert [other for one, other in arrows("providers") if one == "providers.base"] == []


def test_providers_do_no_network_io_but_for_the_engine_process() -> None:
    wires = {module: path for module, path in MODULES.items() if module.startswith("providers") and ".local" not in module}
    assert {module: found for module, path in wires.items() if (found := imports(path, at_run_time=True) & NETWORK)} == {}


def test_only_the_upstream_package_knows_the_http_clients_and_only_the_edge_parses_requests() -> None:
    clients = {"httpx", "h2", "requests"}
    assert [module for module, path in MODULES.items() if imports(path) & clients and stage_of(module) != "upstream"] == []
    parsing = {module for module, path in MODULES.items() if "httptools" in imports(path) and stage_of(module) != "upstream"}
    assert parsing == {"gateway.edge"}


def test_nothing_but_the_configuration_reads_yaml() -> None:
    readers = {module for module, path in MODULES.items() if "yaml" in imports(path)}
    assert readers
    assert [module for module in readers if not module.startswith(("gateway.config.yamlfile", "gateway.config"))] == []


def test_the_hot_path_has_no_middleware_and_no_streaming_response() -> None:
    """One BaseHTTPMiddleware costs more than all of a call's own work, and both lose the caller who leaves."""
    forbidden = {"BaseHTTPMiddleware", "StreamingResponse", "create_task_group"}
    users = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.alias) and node.name in forbidden) or (isinstance(node, ast.Attribute) and node.attr in forbidden)
    }
    assert users == set()


def test_every_module_says_what_it_is_for() -> None:
    assert [module for module, path in MODULES.items() if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))] == []
