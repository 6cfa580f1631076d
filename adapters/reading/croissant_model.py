"""Parses Croissant descriptors: fields of record sets, and the transforms of their values."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.errors import SourceFormatError, one_line

Extract = tuple[str, str]  # ("column" | "fileProperty" | "jsonPath", what)


@dataclass(frozen=True)
class CroissantField:
    """A leaf field and the source of its value.

    `path` is the field's path in the row. `node` is a file, file set or record set.
    """

    path: tuple[str, ...]
    node: str
    extract: Extract
    transforms: tuple[tuple[str, str], ...]
    types: tuple[str, ...]
    references: tuple[str, Extract] | None


def plain(value: Any) -> Any:
    """Returns the JSON-LD value without the prefixes of its keys: `cr:recordSet` becomes `recordSet`."""
    if isinstance(value, dict):
        return {re.sub(r"^(?:cr|ml|sc):", "", str(k)): plain(v) if k != "data" else v for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def listed(value: Any) -> list[Any]:
    """Returns a JSON-LD value as a list. The value may be a list, a single value or None."""
    return value if isinstance(value, list) else [] if value is None else [value]


def id_of(value: Any) -> str:
    """Returns the identifier of a node or of a reference to one."""
    return str(value.get("@id") or value.get("name") or "") if isinstance(value, dict) else str(value or "")


def fields_of(record_set: dict[str, Any], records: dict[str, Any], where: str) -> list[CroissantField]:
    """Returns the leaf fields of a record set, in order. The path of a subfield begins with its parent's path."""
    fields: list[CroissantField] = []
    name = id_of(record_set)

    def add(field: dict[str, Any], above: tuple[str, ...]) -> None:
        path = (*above, short(id_of(field), name))
        below = [f for f in listed(field.get("subField")) if isinstance(f, dict)]
        source = _place(field.get("source"), records)
        references = _place(field.get("references"), records)
        if below:
            for inner in below:
                add(inner, path)
            return
        if source is None and references is not None and "field" not in (field.get("references") or {}):
            source, references = references, None
        node, extract = source or ("", ("column", path[-1]))
        types = tuple(str(t).rsplit("/", 1)[-1] for t in listed(field.get("dataType")))
        fields.append(CroissantField(path, node, extract, _transforms(field.get("source"), where), types, references))

    for field in listed(record_set.get("field")):
        if isinstance(field, dict):
            add(field, ())
    return fields


def short(field: str, record_set: str) -> str:
    """Returns a field's name without the name of its record set."""
    return field.removeprefix(record_set + "/").rsplit("/", 1)[-1]


def _place(source: Any, records: dict[str, Any]) -> tuple[str, Extract] | None:
    if isinstance(source, list):
        source = source[0] if source else None
    if not isinstance(source, dict):
        return None
    stated = source.get("extract")
    extract: dict[str, Any] = stated if isinstance(stated, dict) else {}
    how = next(((k, str(extract[k])) for k in ("column", "fileProperty", "jsonPath") if extract.get(k)), None)
    for key in ("fileObject", "fileSet", "distribution"):
        if source.get(key):
            return id_of(source[key]), how or ("column", "")
    target = id_of(source.get("field") or source.get("@id")) if source.get("field") or source.get("@id") else ""
    if not target:
        return None
    owner = next((r for r in sorted(records, key=len, reverse=True) if target.startswith(r + "/")), "")
    return (owner, ("field", short(target, owner))) if owner else (target, how or ("fileProperty", "content"))


def _transforms(source: Any, where: str) -> tuple[tuple[str, str], ...]:
    steps = listed(source.get("transform")) if isinstance(source, dict) else []
    out = []
    for step in steps:
        for key, value in step.items() if isinstance(step, dict) else ():
            if key not in ("regex", "replace", "separator", "delimiter", "jsonPath", "jsonQuery", "format"):
                raise SourceFormatError(
                    f"{where}: the transform {one_line(key, 40)!r} is not known.",
                    remedy="Known: regex, replace, separator, jsonPath, format.",
                )
            out.append((key, str(value)))
    return tuple(out)


def value_of(raw: Any, field: CroissantField, where: str) -> Any:
    """Returns the field's value after its transforms, converted to its data type."""
    value = raw
    for kind, how in field.transforms:
        value = _transformed(value, kind, how, where)
    return _cast(value, field.types)


def _transformed(value: Any, kind: str, how: str, where: str) -> Any:
    if value is None:
        return None
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if kind == "regex" and isinstance(text, str):
        # Uses RE2, whose time is linear in the text for every pattern.
        match = pc.extract_regex(pa.scalar(text), _re2(how, where)).as_py()
        return match["value"] if match else text
    if kind == "replace" and isinstance(text, str):
        pattern, _, new = how.partition("/")
        return pc.replace_substring_regex(pa.scalar(text), pattern, new).as_py()
    if kind in ("separator", "delimiter") and isinstance(text, str):
        return text.split(how)
    if kind in ("jsonPath", "jsonQuery"):
        match = json_path(orjson.loads(text) if isinstance(text, str) else text, how, where)
        return match[0] if len(match) == 1 else match
    if kind == "format" and isinstance(text, str):
        try:
            return str(datetime.datetime.strptime(text, how))
        except ValueError:
            return text
    return value


@lru_cache(maxsize=256)
def _re2(pattern: str, where: str) -> str:
    """Returns the pattern with its first group named `value`. If it has no group, the whole pattern becomes the group."""
    at = re.search(r"(?<!\\)\((?!\?)", pattern)
    named = pattern[: at.start()] + "(?P<value>" + pattern[at.end() :] if at else f"(?P<value>{pattern})"
    try:
        pc.extract_regex(pa.scalar(""), named)
    except pa.ArrowInvalid as error:
        raise SourceFormatError(
            f"{where}: the pattern {one_line(pattern, 60)!r} can't be used.",
            remedy="Write it without look-around and back references.",
        ) from error
    return named


def _cast(value: Any, types: tuple[str, ...]) -> Any:
    names = {re.sub(r"^\w+:", "", t) for t in types}
    if names & {"ImageObject", "AudioObject", "VideoObject"}:
        return value
    if isinstance(value, bytes):
        if not names:
            return value
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and "Integer" in names and abs(value) < 2**63:
        return int(value)  # the type that the descriptor states; the reference reader does the same
    if not isinstance(value, str):
        return value
    if names & {"Integer", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"}:
        return int(value) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value) else value or None
    if names & {"Float", "Number", "Float16", "Float32", "Float64"}:
        try:
            number = float(value)
        except ValueError:
            return None if value.strip().lower() in ("", "none", "null", "na") else value
        return number if number == number else None
    if "Boolean" in names or "Bool" in names:
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def json_path(value: Any, path: str, where: str) -> list[Any]:
    """Returns the values at a JSONPath, which may contain names, numbers and `[*]`."""
    steps = re.findall(r"\.([\w-]+|\*)|\[(?:'([^']*)'|\"([^\"]*)\"|(\d+)|(\*))\]", path)
    rebuilt = re.sub(r"\.([\w-]+|\*)|\[(?:'[^']*'|\"[^\"]*\"|\d+|\*)\]", "", path)
    if rebuilt not in ("$", ""):
        raise SourceFormatError(
            f"{where}: the JSONPath {one_line(path, 60)!r} is not known.",
            remedy="Known: $.name, ['name'], [3] and [*].",
        )
    values = [value]
    for name, quoted, double, number, star in steps:
        after: list[Any] = []
        for item in values:
            if star or name == "*":
                after += item if isinstance(item, list) else item.values() if isinstance(item, dict) else []
            elif number:
                after += [item[int(number)]] if isinstance(item, list) and int(number) < len(item) else []
            else:
                key = name or quoted or double
                after.append(item.get(key) if isinstance(item, dict) else None)
        values = after
    return values
