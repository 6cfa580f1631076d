"""Finds code of the package that nothing calls, or that only tests call: `make lint` runs `python -m tests.dead_code`.

It reads the syntax trees. A name at the top of a module is found exactly, through imports. A method, a field or a keyword
counts as used wherever its name is. Benches, examples and scripts of the docs count as callers.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.test_architecture import ROOT, sources

CALLERS = ("bench", "examples", "docs", "locks")
# Decorators that do not call the function that they decorate.
INERT = {
    "property",
    "staticmethod",
    "classmethod",
    "contextmanager",
    "cached_property",
    "cache",
    "lru_cache",
    "dataclass",
}
INERT |= {"setter", "override", "wraps", "runtime_checkable", "abstractmethod", "overload", "total_ordering", "final"}
# Methods and fields that a library uses, by the library.
USED_BY_LIBRARIES = {
    "accelerate": {"drop_last"},
    "click": {"write_dl"},
    "ctypes": {"_fields_"},
    "html.parser": {"handle_starttag", "handle_endtag", "handle_data"},
    "io": {"readinto", "seekable"},
    "torch": {"_get_iterator", "_try_get_data"},
    "yaml": {"compose_node"},
}
ALLOWED = frozenset(name for names in USED_BY_LIBRARIES.values() for name in names)
# What the registry of formats asks of every module in adapters/.
FORMAT = {"ADAPTER", "detect"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Scan:
    """A module: its definitions, what its imports bind, and the names that it uses."""

    name: str
    tree: ast.Module
    # For each local name, the modules or the (module, name) that imports bind to it. Functions may bind it differently.
    bound: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))


def _imports(module: Scan, known: Mapping[str, object]) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = (inner, "") if inner in known else (node.module, alias.name)
                module.bound[alias.asname or alias.name].add(target)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    module.bound[alias.asname].add((alias.name, ""))


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


class Package:
    """All modules, and every use of a name in them."""

    def __init__(self, package: Mapping[str, str], callers: Mapping[str, str] = {}) -> None:
        self.modules = {name: Scan(name, ast.parse(source)) for name, source in package.items()}
        self.callers = [Scan(name, ast.parse(source)) for name, source in callers.items()]
        self.globals: dict[tuple[str, str], set[str]] = defaultdict(set)  # (module, name) -> the places that use it
        self.attributes: dict[str, set[str]] = defaultdict(set)
        self.calls: dict[str, list[ast.Call]] = defaultdict(list)
        self.values: set[str] = set()  # names of functions that are used other than in a call
        for module in (*self.modules.values(), *self.callers):
            _imports(module, self.modules)
        for module in (*self.modules.values(), *self.callers):
            self._read(module, module.tree, "", frozenset())

    def _origin(self, module: str, name: str) -> tuple[str, str]:
        """The module that defines what `module` calls `name`."""
        for _ in range(10):
            scan = self.modules.get(module)
            if scan is None or name in _top_names(scan.tree) or name not in scan.bound:
                break
            module, name = next(iter(scan.bound[name]))
        return module, name

    def _read(self, module: Scan, node: ast.AST, place: str, local: frozenset[str]) -> None:
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for real in {name, *(origin for _, origin in module.bound.get(name, ()) if origin)}:
                self.calls[real].append(node)
            if name == "partial" and node.args:
                inner = _dotted(node.args[0]).rpartition(".")[2]
                self.calls[inner].append(ast.Call(node.func, node.args[1:], [*node.keywords, ast.keyword(None, node)]))
        for child in ast.iter_child_nodes(node):
            self._use(module, child, place, local, is_called=child is called)
            inner_place, inner_local = place, local
            if isinstance(child, Function | ast.ClassDef):
                inner_place = f"{place}.{child.name}" if place else f"{module.name}:{child.name}"
            if isinstance(child, Function | ast.Lambda):
                inner_local = local | _locals(child)
            self._read(module, child, inner_place, inner_local)

    def _use(self, module: Scan, node: ast.AST, place: str, local: frozenset[str], *, is_called: bool) -> None:
        where = place or module.name
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
            for owner, name in module.bound.get(node.id, {(module.name, node.id)}):
                self.globals[self._origin(owner, name or node.id)].add(where)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Load):
                self.attributes[node.attr].add(where)
            for owner, name in module.bound.get(_dotted(node.value), ()):
                if not name:
                    self.globals[self._origin(owner, node.attr)].add(where)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier():
                self.attributes[node.value].add(where)
            owner, _, name = node.value.replace(":", ".").rpartition(".")
            self.globals[owner, name].add(where)
        elif isinstance(node, ast.MatchClass):
            for name in node.kwd_attrs:
                self.attributes[name].add(where)
        if not is_called and isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            self.values.add(node.attr if isinstance(node, ast.Attribute) else node.id)


def _locals(node: Function | ast.Lambda) -> frozenset[str]:
    arguments = node.args
    names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
    body = node.body if isinstance(node.body, list) else [node.body]
    outer: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        inner = stack.pop()
        if isinstance(inner, ast.Global | ast.Nonlocal):
            outer |= set(inner.names)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        if not isinstance(inner, Function | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(inner)
    return frozenset(names - outer)


def _top(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a module or class defines, with their statements."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield node.name, node
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    yield name.id, node


def _top_names(tree: ast.Module) -> set[str]:
    return {name for name, _ in _top(tree)}


def _is_registered(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, Function | ast.ClassDef) else []
    names = [_dotted(d.func if isinstance(d, ast.Call) else d).rpartition(".")[2] for d in decorators]
    return any(name not in INERT for name in names)


def public_names() -> set[str]:
    """The words in the code of the documentation: the public API."""
    names: set[str] = set()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for code in re.findall(r"```.*?```|`[^`]+`", path.read_text(), re.DOTALL):
            names |= set(re.findall(r"[A-Za-z_]\w+", code))
    return names


def imported_elsewhere() -> set[str]:
    """Names that the documentation imports, and entry points of the package, as `module:name`."""
    text = "\n".join(path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    found = re.findall(r"from (choline_data[\w.]*) import ([\w, ]+)", text)
    names = {f"{module}:{name.strip()}" for module, names in found for name in names.split(",")}
    return names | set(re.findall(r'"(choline_data[\w.]*:\w+)"', (ROOT / "pyproject.toml").read_text()))


def unused(package: Package, public: set[str], imported: set[str]) -> list[str]:
    """The definitions that nothing in the package uses, as `module:name`."""
    out = []
    for module in package.modules.values():
        expected = FORMAT if module.name.startswith("choline_data.adapters.") else set()
        for name, node in _top(module.tree):
            place = f"{module.name}:{name}"
            inside = [w for w in package.globals[module.name, name] if w != place and not w.startswith(f"{place}.")]
            special = name == "_" or (name.startswith("__") and name.endswith("__")) or name in expected
            if not inside and not special and not _is_registered(node) and place not in imported:
                out.append(place)
            elif isinstance(node, ast.ClassDef):
                out += _unused_members(package, place, node, public)
    return sorted(out)


def _unused_members(package: Package, place: str, node: ast.ClassDef, public: set[str]) -> Iterator[str]:
    for name, member in _top(node):
        if name.startswith(("__", "test_")) or name in ALLOWED or name in public or _is_registered(member):
            continue
        at = f"{place}.{name}"
        if not [where for where in package.attributes[name] if where != at and not where.startswith(f"{at}.")]:
            yield at
        if isinstance(member, ast.ClassDef):
            yield from _unused_members(package, at, member, public)


def unpassed(package: Package, public: set[str]) -> list[str]:
    """The parameters with a default that no call in the package ever passes, as `module:function(parameter)`."""
    out = []
    for module in package.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and not node.name.startswith("__") and not _is_registered(node):
                if node.name in package.values or node.name in public or node.name in ALLOWED:
                    continue
                calls = package.calls[node.name]
                out += [f"{module.name}:{node.name}({name})" for name in _unpassed(node, calls)]
    return sorted(out)


def _unpassed(node: Function, calls: list[ast.Call]) -> Iterator[str]:
    positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    optional = positional[len(positional) - len(node.args.defaults) :]
    optional += [a.arg for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
    own = 1 if positional[:1] in (["self"], ["cls"]) else 0
    for name in optional:
        at = positional.index(name) - own if name in positional else 1 << 30
        for call in calls:
            spread = any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords)
            if spread or len(call.args) > at or any(k.arg == name for k in call.keywords):
                break
        else:
            yield name


def main() -> int:
    """Prints what it finds. Returns 1 if there is anything."""
    callers = {str(p): p.read_text() for folder in CALLERS for p in sorted((ROOT / folder).rglob("*.py"))}
    package, public = Package(sources(), callers), public_names()
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.rglob("*.py"))
    found = [*unused(package, public, imported_elsewhere()), *unpassed(package, public)]
    for each in found:
        last = re.split(r"[:.(]", each.rstrip(")"))[-1]
        print(f"{each} is used by {'tests only' if re.search(rf'[.( ]{last}[(,) ]', tests) else 'nothing'}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
