"""Parses untrusted YAML: returns plain data or raises a typed error. Refuses tags, repeated keys and alias bombs.

Scalars follow the core schema of YAML 1.2, not of 1.1: only `true` and `false` are booleans, so `no` stays "no". A number
stays a string if parsing would lose its spelling: `1.10` is "1.10", `007` is "007". Dates stay strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from choline_data.errors import SourceFormatError, SourceTooLargeError, one_line

MAX_CHARS = 16 << 20
MAX_NODES = 1_000_000
MAX_DEPTH = 64

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FAULTS = (yaml.YAMLError, UnicodeError, ValueError, TypeError, RecursionError)
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$")


class _Loader(_Base):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _plain(tag: str, pattern: re.Pattern[str], first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list(first))


def _number(loader: Any, node: yaml.ScalarNode) -> float | str:
    value = float(node.value)
    exact = repr(value) == node.value or "e" in node.value.lower()
    return value if exact and abs(value) != float("inf") else str(node.value)


def _integer(loader: Any, node: yaml.ScalarNode) -> int | str:
    return int(node.value) if len(node.value) <= 30 else str(node.value)


_Loader.yaml_implicit_resolvers = {}
_plain("null", re.compile(r"(?:~|null|Null|NULL|)$"), "~nN\0")
_Loader.yaml_implicit_resolvers[""] = [("tag:yaml.org,2002:null", re.compile(r"$"))]
_plain("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_plain("int", _INT, "-0123456789")
_plain("float", _FLOAT, "-0123456789")
_plain("merge", re.compile(r"<<$"), "<")
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def safe_load(text: str | bytes, where: str) -> Any:
    """Returns the single document in `text` as plain data. Raises SourceFormatError or SourceTooLargeError, which names `where`."""
    if len(text) > MAX_CHARS:
        raise SourceTooLargeError(f"{where}: YAML of more than {MAX_CHARS >> 20} MiB.", remedy="Split the file.")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, where, {}, ())
        return loader.construct_document(node)
    except _FAULTS as error:
        raise _not_yaml(error, where) from error
    finally:
        if loader is not None:
            loader.dispose()


def safe_load_all(text: str, where: str) -> Iterator[Any]:
    """Yields the documents in `text` as plain data, one after the other. Raises as `safe_load` does."""
    if len(text) > MAX_CHARS:
        raise SourceTooLargeError(f"{where}: YAML of more than {MAX_CHARS >> 20} MiB.", remedy="Split the file.")
    loader = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            _check(node, where, {}, ())
            yield loader.construct_document(node)
    except _FAULTS as error:
        raise _not_yaml(error, where) from error
    finally:
        if loader is not None:
            loader.dispose()


def _not_yaml(error: Exception, where: str) -> SourceFormatError:
    mark = getattr(error, "problem_mark", None)
    line = f"{where}:{mark.line + 1}" if mark is not None else where
    problem = getattr(error, "problem", None) or error
    return SourceFormatError(f"{line}: not YAML ({one_line(problem, 120)}).", remedy="Correct the file.")


def _check(node: yaml.Node, where: str, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Returns the number of nodes under `node`, including itself, with aliases expanded. Raises an error for any YAML
    feature that is not allowed.

    `sizes` holds the results for nodes that were checked before, and `above` the ids of the parent nodes.
    """
    if id(node) in above:
        raise _refused(node, where, "an alias that contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    if len(above) >= MAX_DEPTH:
        raise _refused(node, where, f"more than {MAX_DEPTH} levels")
    if not str(node.tag).startswith("tag:yaml.org,2002:") or str(node.tag).startswith("tag:yaml.org,2002:python"):
        raise _refused(node, where, f"the tag {one_line(node.tag, 60)!r}")
    size, below = 1, (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[tuple[str, str]] = set()
        for key, value in node.value:
            spelling = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if spelling is None:
                raise _refused(key, where, "a key that is not a plain word")
            if spelling in keys and key.value != "<<":
                raise _refused(key, where, f"the key {one_line(key.value, 60)!r} twice")
            keys.add(spelling)
            size += 1 + _check(value, where, sizes, below)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, where, sizes, below) for item in node.value)
    if size > MAX_NODES:
        raise SourceTooLargeError(
            f"{where}: its aliases expand to more than {MAX_NODES:,} values.",
            remedy="Write the values out.",
        )
    sizes[id(node)] = size
    return size


def _refused(node: yaml.Node, where: str, what: str) -> SourceFormatError:
    return SourceFormatError(
        f"{where}:{node.start_mark.line + 1}: contains {what}.",
        remedy="Only plain YAML data is accepted; change that line.",
    )


def front_matter(text: str, where: str) -> dict[str, Any]:
    """Returns the YAML mapping between the leading `---` lines of a README; empty if there is none."""
    match = re.match(r"\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", text, re.DOTALL | re.MULTILINE)
    data = safe_load(match.group(1), where) if match else None
    return data if isinstance(data, dict) else {}
