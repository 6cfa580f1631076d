"""The architecture: imports go in one direction and never in a circle, each name is used once, and files are short."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("adapters", "catalog", "client", "service")
# What each top-level folder may import besides the core. The command line may import all of them.
ALLOWED = {
    "core": set(),
    "adapters": {"adapters"},
    "catalog": {"adapters", "catalog"},
    "service": {"service", "v1"},
    "client": {"client", "v1"},
    "cli": {"adapters", "catalog", "client", "service", "v1", "cli"},
}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PUBLIC_METHODS = 450, 60, 25


def sources() -> dict[str, str]:
    """Every module of the package by its dotted name, without generated ones."""
    found = {}
    for folder, prefix in [("src/choline_data", ()), *[(house, (house,)) for house in HOUSES]]:
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT / folder)
            if path.name.count("_pb2") or (not prefix and inside.parts[0] in (*HOUSES, "v1")):
                continue
            parts = ("choline_data", *prefix, *inside.with_suffix("").parts)
            found[".".join(part for part in parts if part != "__init__")] = path.read_text()
    return found


def _typing_only(tree: ast.AST) -> set[ast.AST]:
    """The nodes below `if TYPE_CHECKING`: names for annotations, which load nothing."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imports(name: str, source: str, known: Mapping[str, str]) -> set[str]:
    """The modules that a module loads: at its top, inside functions, and by names in strings."""
    tree = ast.parse(source)
    annotations, found = _typing_only(tree), set()
    for node in ast.walk(tree):
        if node in annotations:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found |= {node.value.partition(":")[0]} & set(known)
    return {module for one in found for module in _modules_of(one, known)} - {name}


def _modules_of(dotted: str, known: Mapping[str, str]) -> Iterator[str]:
    """The module that a dotted name lies in; of `choline_data.store.Catalog` that is `choline_data.store`."""
    while dotted.startswith("choline_data"):
        if dotted in known or dotted.startswith("choline_data.v1"):
            yield dotted
            return
        dotted = dotted.rpartition(".")[0]


def house_of(module: str) -> str:
    """Returns the top-level folder of a module."""
    part = module.split(".")[1] if "." in module else "cli"  # the package itself hands out public names
    return part if part in (*HOUSES, "v1", "cli") else "cli" if part == "__main__" else "core"


def room_of(module: str, known: Mapping[str, str]) -> str:
    """Returns the folder of a module. A module at the top counts as a folder of its own."""
    folder = module if any(name.startswith(f"{module}.") for name in known) else module.rpartition(".")[0]
    return module if folder == "choline_data" else folder


def upward(modules: Mapping[str, str]) -> list[str]:
    """Returns the imports that the table of allowed imports does not have."""
    return sorted(
        f"{name} imports {other}"
        for name, source in modules.items()
        for other in imports(name, source, modules)
        if house_of(other) != "core" and house_of(other) not in ALLOWED[house_of(name)] and other != "choline_data"
    )


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of two or more that reach each other: Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for node in arrows:
        if node not in order:
            visit(node)
    return found


def arrows_of(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """What each module loads."""
    return {name: imports(name, source, modules) for name, source in modules.items()}


MODULES = sources()


def test_every_arrow_points_down():
    assert upward(MODULES) == []


def test_no_modules_load_each_other_in_a_circle():
    assert circles(arrows_of(MODULES)) == []


def test_no_rooms_load_each_other_in_a_circle():
    """A folder and the folders inside it count as one, because they share code."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, others in arrows_of(MODULES).items():
        for other in others:
            one, two = room_of(name, MODULES), room_of(other, MODULES)
            if not f"{one}.".startswith(f"{two}.") and not f"{two}.".startswith(f"{one}."):
                arrows[one].add(two)
    assert circles(arrows) == []


def test_a_planted_circle_and_a_planted_upward_arrow_are_noticed():
    planted = {
        "choline_data.store.one": "def late():\n    from choline_data.store import two",
        "choline_data.store.two": "import importlib\nimportlib.import_module('choline_data.store.one')",
        "choline_data.store": "",
        "choline_data.client": "",
        "choline_data.service.three": "from choline_data import client",
    }
    assert circles(arrows_of(planted)) == [["choline_data.store.one", "choline_data.store.two"]]
    assert upward(planted) == ["choline_data.service.three imports choline_data.client"]


def test_no_two_modules_and_no_two_public_classes_share_a_name():
    names = Counter(name.rpartition(".")[2] for name in MODULES if not name.endswith("__main__"))
    assert [name for name, count in names.items() if count > 1] == []
    classes = defaultdict(set)
    for module, source in MODULES.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(module)
    assert {name: sorted(places) for name, places in classes.items() if len(places) > 1} == {}


def test_files_functions_and_classes_stay_short():
    long = [
        f"{name}: {source.count(chr(10))} lines" for name, source in MODULES.items() if source.count("\n") > MOST_LINES
    ]
    for module, source in MODULES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{module}.{node.name}: {lines} lines")
            if isinstance(node, ast.ClassDef):
                public = [f for f in node.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")]
                if len(public) > MOST_PUBLIC_METHODS:
                    long.append(f"{module}.{node.name}: {len(public)} public methods")
    assert long == []


def test_no_module_unpickles_or_evaluates():
    banned = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for path in [*ROOT.glob("src/**/*.py"), *(p for h in HOUSES for p in (ROOT / h).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not banned & {a.name.split(".")[0] for a in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path


HEAVY = ("torch", "apache_beam", "datasets", "grpc", "webdataset")


@pytest.mark.parametrize("code", ["import choline_data", "from choline_data.cli.app import app"])
def test_importing_the_package_or_asking_for_help_loads_nothing_heavy(code):
    check = f"{code}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_help_answers_in_half_a_second():
    # Processor time, not the clock: the machine that runs the tests has other work.
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "choline_data", "--help"], capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(took) < 0.5
