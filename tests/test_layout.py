"""Layout rules that the import contracts in pyproject.toml cannot express: sizes, docstrings, tests and forbidden constructs."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_ROOT_FILES = 6


def module_name(path: Path) -> str:
    """Return the import name of a file: `gateway/upstream/pool.py` is gateway.upstream.pool; a package is its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each source file by import name."""
    return {module_name(path): ast.parse(path.read_text()) for path in SOURCES}


def imported_modules(tree: ast.AST) -> set[str]:
    """Return the modules that a file imports, including those under TYPE_CHECKING and inside functions."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            modules.add(node.module or "")
    return modules


def test_root_of_the_gateway_has_few_files() -> None:
    assert len(list((ROOT / "gateway").glob("*.py"))) <= MAX_ROOT_FILES


def test_files_are_short() -> None:
    assert {str(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [(name, node) for name, tree in trees().items() for node in ast.walk(tree) if isinstance(node, kinds)]
    long = {f"{name}.{node.name}" for name, node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES}
    assert long == set()


def test_only_the_edge_and_the_upstream_client_parse_http() -> None:
    parsing = {name for name, tree in trees().items() if "httptools" in imported_modules(tree) and not name.startswith("gateway.upstream.")}
    assert parsing == {"gateway.http.connection", "gateway.http.head", "gateway.http.protocol", "gateway.http.upgrade"}


def test_hot_path_has_no_middleware_and_no_streaming_response() -> None:
    """One BaseHTTPMiddleware costs more than the gateway's own work for a call, and both constructs miss a caller's disconnect."""
    forbidden = {"BaseHTTPMiddleware", "StreamingResponse", "create_task_group"}
    users = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.alias) and node.name in forbidden) or (isinstance(node, ast.Attribute) and node.attr in forbidden)
    }
    assert users == set()


def test_every_module_has_a_docstring() -> None:
    assert [name for name, tree in trees().items() if not ast.get_docstring(tree)] == []


def names_imported_by(tree: ast.AST) -> set[str]:
    """Return the names that a file imports: `from a.b import c` imports a.b and a.b.c."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_every_module_is_imported_by_a_test() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts]
    imported = {name for path in tests for name in names_imported_by(ast.parse(path.read_text()))}
    modules = {module_name(path) for path in SOURCES if path.name != "__init__.py"}
    assert modules - imported == set()
