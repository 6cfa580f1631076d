"""Finds rows that a JSON document writes as bare arrays, such as `[["name", "age"], ["Ann", 3]]`, and the names of
their columns.

The names are the first array, or are beside the rows: under `columns`, `fields` or `columnNames`, as pandas, ERDDAP,
Socrata, Google and many services write them. The results of a SPARQL query are rows too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from choline_data.adapters.reading.array_lines import names_above
from choline_data.adapters.reading.table_head import by_place
from choline_data.errors import ChoiceNeededError, SourceFormatError, one_line

_NAMES = (
    "columns",
    "columnnames",
    "column_names",
    "fields",
    "fieldnames",
    "field_names",
    "header",
    "headers",
    "cols",
    "names",
    "schema",
)
_NAME = ("name", "fieldName", "label", "id", "field", "title", "text")
_DEPTH = 4
_LOOKED = 64


def rows_of_arrays(values: list[Any]) -> list[Any] | None:
    """Returns the rows of arrays that all have the same length, above 1. None if the values are something else."""
    if not values or not all(isinstance(v, list) for v in values):
        return None
    width = len(values[0])
    if width < 2 or any(len(v) != width for v in values) or len(values) < 2:
        return None
    if any(isinstance(cell, (dict, list)) for row in values[:_LOOKED] for cell in row):
        return None
    try:
        header = names_above(values[:_LOOKED], "")
    except ChoiceNeededError as error:
        raise SourceFormatError(
            f"the first array of the document ({one_line(str(values[0]), 80)}) may name the columns, or be a row.",
            remedy="Make JSON Lines of it: jq -c '.[]' FILE > FILE.jsonl. There, --header 1 or --header none says which.",
        ) from error
    names = tuple(values[0]) if header else by_place(width)
    return [dict(zip(names, row, strict=True)) for row in (values[1:] if header else values)]


def with_names(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of a document that has one list of arrays and one list of names for them, at any place.

    Other small values beside them describe the document, and are not copied to the rows.
    """
    rows = [(path, value) for path, value in _lists(document) if _are_rows(value)]
    if len(rows) != 1:
        return None
    path, body = rows[0]
    width = len(body[0])
    named = [(at, names) for at, value in _lists(document) if (names := _names(at, value, width))]
    named = [pair for pair in named if pair[0] != path]
    if len({names for _, names in named}) != 1:
        return None
    names = named[0][1]
    found = [dict(zip(names, row, strict=True)) for row in body]
    index = document.get("index")
    if path == ("data",) and isinstance(index, list) and len(index) == len(body) and index != list(range(len(body))):
        return [{"index": at, **row} for at, row in zip(index, found, strict=True)]
    return found


def bindings(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of the results of a SPARQL query: `{"head": {"vars": […]}, "results": {"bindings": […]}}`."""
    head, results = document.get("head"), document.get("results")
    if not (isinstance(head, dict) and isinstance(results, dict) and isinstance(head.get("vars"), list)):
        return None
    found = results.get("bindings")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        return None
    return [{name: (row.get(name) or {}).get("value") for name in map(str, head["vars"])} for row in found]


def _lists(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Yields the lists in the objects of a document, each with its keys."""
    if isinstance(value, list) and path:
        yield path, value
    elif isinstance(value, dict) and len(path) < _DEPTH:
        for key, inner in value.items():
            yield from _lists(inner, (*path, key))


def _are_rows(value: list[Any]) -> bool:
    lists = bool(value) and all(isinstance(row, list) for row in value)
    return lists and len(value[0]) > 0 and all(len(row) == len(value[0]) for row in value)


def _names(path: tuple[str, ...], value: list[Any], width: int) -> tuple[str, ...] | None:
    """Returns the names of the columns, if the key says that the list holds them, and there is one for each column."""
    if path[-1].lower() not in _NAMES or len(value) != width:
        return None
    if all(isinstance(name, str) for name in value):
        return tuple(value) if len(set(value)) == width else None
    if not all(isinstance(name, dict) for name in value):
        return None
    for key in _NAME:
        names = [str(column.get(key)) for column in value if column.get(key)]
        if len(set(names)) == width:
            return tuple(names)
    return None
