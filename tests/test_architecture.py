"""The shape of the source: who may import whom, what stays pure, and how long things may get.

A file or function beyond its limit carries a comment `# long: why`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cortex"
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_MODULES_PER_FOLDER = 16

SHARED = {"errors", "wire", "config", "placement", "__init__"}
"""What every part but the engine may import; the engine gets by with errors and wire."""

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "wire": {"errors", "wire"},
    "config": {"errors", "wire", "config"},
    "logs": {"config"},
    "engine": {"errors", "wire", "engine"},
    "placement": {"errors", "wire", "config", "placement"},
    "dialects": {*SHARED, "dialects"},
    "serving": {*SHARED, "dialects", "serving"},
    "gateway": {*SHARED, "dialects", "serving", "gateway"},
    "neuron": {*SHARED, "dialects", "serving", "neuron"},
    "operator": {*SHARED, "operator"},
    "top": {*SHARED, "operator", "top"},
    "bench": {"errors", "operator", "bench"},
    "cli": {*SHARED, "logs", "operator", "gateway", "neuron", "top", "bench", "cli"},
    "__main__": {"cli"},
    "__init__": set(),
}

ONLY_IN: dict[str, re.Pattern[str]] = {
    "llama_cpp": re.compile(r"engine/(llama|grammar)/\w+\.py"),
    "llguidance": re.compile(r"engine/grammar/\w+\.py"),
    "prometheus_client": re.compile(r"[\w/]+/metrics\.py"),
    "litestar": re.compile(r"serving/[\w/]+\.py|gateway/(app|admin)\.py|neuron/(app|api/admin)\.py"),
    "uvicorn": re.compile(r"serving/http/\w+\.py"),
    "pynvml": re.compile(r"neuron/devices/\w+\.py"),
    "typer": re.compile(r"cli/\w+\.py"),
    "jinja2": re.compile(r"engine/chat/templates/\w+\.py"),
}
"""A library that shapes the code around it stays in its place."""

# template.py bounds a hostile template's time with a thread; loop.py is the one caller of the pure scheduler.
PURE = re.compile(
    r"errors\.py|config/(hints|profiles|settings)\.py|wire/\w+\.py|placement/\w+\.py|dialects/.*\.py"
    r"|engine/chat/(?!templates/template\.py).*\.py|engine/scheduling/\w+\.py|engine/kv/(pool|host_store|slot|tokens)\.py"
    r"|engine/sampling/(params|prompt_lookup)\.py|engine/request/text\.py"
    r"|gateway/scheduling/(?!loop\.py)\w+\.py|gateway/neurons/fleet\.py|gateway/requests/failover\.py"
    r"|gateway/report\.py|neuron/memory/(ledger|estimate)\.py|neuron/models/load_plan\.py"
    r"|operator/(model_rows|load_job|formatting)\.py|top/(commands|rows|state|view)\.py|bench/(statistics|workload)\.py"
)
IMPURE_MODULES = {"asyncio", "socket", "subprocess", "threading", "httpx", "selectors", "multiprocessing"}


def source_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of everything that `path` imports, at any depth; `cortex.x` also for `from cortex import x`."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: imports are absolute"
            module = node.module or ""
            names.update(f"{module}.{alias.name}" for alias in node.names) if module == "cortex" else names.add(module)
    return frozenset(names)


def part(dotted_or_path: str) -> str:
    """The top-level part of cortex: `wire` for cortex.wire.events, `config` for config.py."""
    return dotted_or_path.removesuffix(".py").replace("/", ".").split(".")[0]


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_imports_follow_the_layers(path: Path) -> None:
    mine = part(relative(path))
    inside = {name.removeprefix("cortex.") for name in imports(path) if name.startswith("cortex.")}
    used = {"__init__" if name.startswith("__") else part(name) for name in inside}
    assert mine in ALLOWED, f"{mine} is a new part: say here what it may import"
    assert used <= ALLOWED[mine], f"{relative(path)} must not import {sorted(used - ALLOWED[mine])}"


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_libraries_stay_in_their_place(path: Path) -> None:
    for library, places in ONLY_IN.items():
        if any(part(name) == library for name in imports(path)):
            assert places.fullmatch(relative(path)), f"{library} belongs into {places.pattern}"


@pytest.mark.parametrize("path", [path for path in source_files() if PURE.fullmatch(relative(path))], ids=relative)
def test_pure_modules_do_no_io(path: Path) -> None:
    used = {part(name) for name in imports(path)} & IMPURE_MODULES
    assert not used, f"{relative(path)} must stay pure, but imports {sorted(used)}"


def test_the_neuron_parent_cannot_reach_llama_cpp() -> None:
    """Nothing that the neuron imports, directly or through others, is the engine or llama_cpp."""
    seen: set[Path] = set()
    waiting = sorted((SOURCE / "neuron").rglob("*.py"))
    while waiting:
        path = waiting.pop()
        seen.add(path)
        assert not [name for name in imports(path) if name.startswith(("cortex.engine", "llama_cpp"))], relative(path)
        waiting += [found for name in imports(path) if (found := _module(name)) and found not in seen]


def _module(dotted: str) -> Path | None:
    if not dotted.startswith("cortex."):
        return None
    path = SOURCE.joinpath(*dotted.split(".")[1:])
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def test_no_file_is_part_of_a_circle_of_imports() -> None:
    graph = {path: {found for name in imports(path) if (found := _module(name))} - {path} for path in source_files()}
    circles = [sorted(map(relative, group)) for group in _strongly_connected(graph) if len(group) > 1]
    assert not circles


def _strongly_connected(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Kosaraju: order by the end of a depth-first walk, then walk the reversed graph in the reverse of that order."""
    order: list[Path] = []
    _walk_all(graph, list(graph), order)
    reversed_graph: dict[Path, set[Path]] = {path: set() for path in graph}
    for path, used in graph.items():
        for other in used:
            reversed_graph[other].add(path)
    return _walk_all(reversed_graph, order[::-1], [])


def _walk_all(graph: dict[Path, set[Path]], starts: list[Path], order: list[Path]) -> list[list[Path]]:
    """The trees of a depth-first walk; appends each node to `order` when all behind it are done."""
    seen: set[Path] = set()
    trees: list[list[Path]] = []
    for start in starts:
        tree: list[Path] = []
        stack = [(start, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                tree.append(node)
                stack += [(node, True), *((other, False) for other in sorted(graph[node]))]
        trees.append(tree)
    return trees


_IMPORT_EACH_ALONE = """
import importlib, os, sys, traceback
for library in ("litestar", "numpy", "rich", "typer", "uvicorn", "prometheus_client", "jinja2"):
    importlib.import_module(library)  # once for all children; cortex itself is never imported here
for name in sys.argv[1:]:
    if (pid := os.fork()) == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        print("FAILED", name)
"""


def test_every_module_can_be_imported_alone_and_first() -> None:
    """Each in a process of its own in which nothing of cortex was imported before."""
    names = [".".join(("cortex", *path.relative_to(SOURCE).with_suffix("").parts)) for path in source_files()]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _IMPORT_EACH_ALONE, *names]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "", result.stderr


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCE.rglob("*.py")}), ids=relative)
def test_folders_stay_small(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES_PER_FOLDER


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_files_and_functions_stay_short_or_say_why_not(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_FILE_LINES or any(line.startswith("# long: ") for line in lines), f"{len(lines)} lines"
    for function in functions(path):
        body = lines[function.lineno - 1 : function.end_lineno]
        excused = any("# long: " in line for line in body)
        assert len(body) <= MAX_FUNCTION_LINES or excused, f"{function.name}: {len(body)} lines"


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert not parsed(path).body or ast.get_docstring(parsed(path)), f"{relative(path)} has no docstring"


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_only_public_names_are_imported_from_other_modules(path: Path) -> None:
    """What another module uses is in the `__all__` of the module that defines it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and (source := _module(node.module or "")):
            hidden = {alias.name for alias in node.names if not _module(f"{node.module}.{alias.name}")} - public(source)
            assert not hidden, f"{relative(path)} imports {sorted(hidden)}, not in __all__ of {node.module}"


_CHANGES_A_POOL = re.compile(
    r"\b_?kv\.(open|extend|truncate|rewind|close|checkpoint|drop|drop_oldest|clear|take_effects)\("
)
_CHANGES_A_SEQUENCE = re.compile(
    r"\b(sequence|choice|slot)\.tokens\.(append|extend|truncate)\("
    r"|\b(sequence|choice)\.(slot|cached|stop_at|checkpoint_at|scoring|started|preemptions) ="
)


@pytest.mark.parametrize("path", sorted((SOURCE / "engine").rglob("*.py")), ids=relative)
def test_only_the_scheduler_changes_sequences_and_the_kv_pool(path: Path) -> None:
    """The others ask it, and tell it what became of a batch; a replayed choice is prepared before it is submitted."""
    if path.parent.name != "scheduling":
        assert not _CHANGES_A_POOL.search(path.read_text())
        if relative(path) != "engine/request/state.py":
            assert not _CHANGES_A_SEQUENCE.search(path.read_text())


@cache
def public(path: Path) -> frozenset[str]:
    assigned = (node for node in parsed(path).body if isinstance(node, ast.Assign))
    return frozenset(name for node in assigned if _target(node) == "__all__" for name in ast.literal_eval(node.value))


def _target(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_nothing_is_left_unfinished(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", path.read_text())


@pytest.mark.parametrize(
    "path", [path for path in SOURCE.rglob("*.py") if "sys.executable" in path.read_text()], ids=str
)
def test_child_processes_import_nothing_from_the_directory_they_are_started_in(path: Path) -> None:
    """`python -m` puts it first in sys.path unless told -P: a user's own `http.py` would stand in for the library's."""
    for command in re.findall(r"sys\.executable\s*,\s*(\S+?),", path.read_text()):
        assert command == '"-P"'
