"""Arrows point one way: what each house may import, and what importing the package must not load."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "adapters": {"adapters"},
    "catalog": {"adapters", "catalog"},
    "service": {"service", "v1"},
    "client": {"client", "v1"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("choline_data")}


@pytest.mark.parametrize("house", ALLOWED)
def test_a_house_imports_the_core_and_what_stands_below_it(house):
    wrong = []
    for path in (ROOT / house).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if len(parts) > 1 and parts[1] in {"adapters", "catalog", "client", "service", "v1"} - ALLOWED[house]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_no_module_unpickles_or_evaluates():
    banned = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for path in [*ROOT.glob("src/**/*.py"), *(p for h in ALLOWED for p in (ROOT / h).rglob("*.py"))]:
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
