"""Reads JSON in which a program wraps its rows: MongoDB, Elasticsearch, BigQuery, and batches of OpenAI, Anthropic and Gemini.

Typed values such as `{"$numberLong": "5"}` become plain values, and the wrapping around a row is taken off. Everything else of a
row is kept. The lines of a bulk request are read in pairs; updates and deletions are refused.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.json_document import rows_of
from choline_data.adapters.reading import io
from choline_data.adapters.reading.documents import document
from choline_data.adapters.reading.names import is_about
from choline_data.adapters.reading.records import checked_loads, dumps
from choline_data.adapters.text_records.line_records import lines_of, rows_in_chunks, shards_of
from choline_data.errors import SourceDamagedError, SourceFormatError

log = logging.getLogger("choline_data")
LOOKED_BYTES = 16 << 10
EXTENSIONS = frozenset({"json", "jsonl", "ndjson", "jsonlines", "ldjson", ""})
_ACTIONS = ("index", "create")


@dataclass(frozen=True)
class JsonDialect:
    """Reads files of one dialect: lines of JSON, an array, or one document."""

    dialect: str = "mongodb"
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on. A line that is not a JSON object is rejected."""
        unwrap = _DIALECTS[self.dialect][1]
        in_document = rows_of if self.dialect == "mongodb" else _elements
        return rows_in_chunks(unwrap(_values(shard, self.encoding, in_document), shard.name), shard, start)


ADAPTER = JsonDialect


def _elements(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _values(shard: Shard, encoding: str, in_document: Callable[[Any], list[Any]]) -> Iterator[Any]:
    """Yields the values of the lines, or those in the only document. None stands for a line that is not JSON."""
    first = io.head(shard.path, LOOKED_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    line, newline, _ = first.partition(b"\n")
    if first[:1] == b"[" or (newline and _loaded(line) is None):
        yield from in_document(document(shard.path, shard.name))
        return
    if not newline and io.extension(shard.name) == "json":  # one document, or lines of which the first one is long
        with contextlib.suppress(SourceDamagedError):
            yield from in_document(document(shard.path, shard.name))
            return
    for text in lines_of(shard, encoding):
        if text.strip():
            yield _loaded(text.encode())


def _loaded(line: bytes) -> Any:
    try:
        return checked_loads(line)
    except (ValueError, RecursionError):
        return None


def _of_mongodb(values: Iterable[Any], name: str) -> Iterator[Any]:
    for value in values:
        try:
            yield _plain(value)
        except RecursionError:
            yield None


def _plain(value: Any) -> Any:
    """Returns a value of MongoDB's extended JSON as plain JSON. Types that JSON lacks, such as `$binary`, stay as they are."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        kind, content = next(iter(value.items()))
        try:
            if kind == "$date":
                return _date(content)
            if kind in _TYPED and isinstance(content, str):
                return _TYPED[kind](content)
        except (ValueError, OverflowError, OSError):
            return value
    return {key: _plain(item) for key, item in value.items()}


_TYPED: dict[str, Callable[[str], Any]] = {
    "$oid": str, "$uuid": str, "$symbol": str, "$numberDecimal": str, "$numberInt": int, "$numberLong": int,
    "$numberDouble": float,
}  # fmt: skip


def _date(content: Any) -> str:
    millis = int(content["$numberLong"]) if isinstance(content, dict) else content
    if isinstance(millis, str):
        return millis
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat()


def _of_bulk(values: Iterable[Any], name: str) -> Iterator[Any]:
    """Pairs the lines of a bulk request: what to do with a document, and the document."""
    lines = iter(values)
    for line in lines:
        action = next(iter(line), "") if isinstance(line, dict) else ""
        if action not in _ACTIONS or not isinstance(line[action], dict):
            raise SourceFormatError(
                f"{name}: a bulk request with {action or 'a line that is no action'!r}, whose result only the index knows.",
                remedy="Load it into Elasticsearch, and export the index: elasticdump --input=INDEX --output=new.json",
            )
        found = next(lines, None)
        yield {**line[action], **found} if isinstance(found, dict) else None


def _of_hits(values: Iterable[Any], name: str) -> Iterator[Any]:
    """Yields the documents of hits: of the lines that elasticdump writes, or of the response to a search."""
    for value in values:
        hits = value.get("hits") if isinstance(value, dict) else None
        if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
            total = hits.get("total")
            count = total.get("value") if isinstance(total, dict) else total
            _warn_if_cut(name, len(hits["hits"]), count)
            yield from map(_hit, hits["hits"])
        else:
            yield _hit(value)


def _hit(value: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("_source"), dict):
        return None
    return {**{k: v for k, v in value.items() if k not in ("_source", "_score", "_type")}, **value["_source"]}


def _warn_if_cut(name: str, count: int, total: Any) -> None:
    if isinstance(total, (int, str)) and str(total).isdigit() and int(total) > count:
        log.warning("%s is one page of an answer: it has %d of %s rows.", name, count, total)


def _of_bigquery(values: Iterable[Any], name: str) -> Iterator[Any]:
    for value in values:
        fields = (value.get("schema") or {}).get("fields") if isinstance(value, dict) else None
        if not isinstance(fields, list):
            raise SourceFormatError(
                f"{name}: an answer of BigQuery without the schema of its rows.",
                remedy="Export the table: bq extract --destination_format=PARQUET TABLE gs://BUCKET/new.parquet",
            )
        rows = value.get("rows") or []
        _warn_if_cut(name, len(rows), value.get("totalRows"))
        yield from (_record(row, fields) for row in rows)


def _record(row: Any, fields: Sequence[Any]) -> Any:
    cells = row.get("f") if isinstance(row, dict) else None
    if not isinstance(cells, list) or len(cells) != len(fields):
        return None
    return {field["name"]: _cell(cell.get("v"), field) for field, cell in zip(fields, cells, strict=True)}


def _cell(value: Any, field: dict[str, Any]) -> Any:
    if field.get("mode") == "REPEATED" and isinstance(value, list):
        return [_cell(item.get("v"), {**field, "mode": ""}) for item in value]
    kind = field.get("type", "")
    if value is None or kind in ("STRING", "BYTES"):
        return value
    if kind in ("RECORD", "STRUCT"):
        return _record(value, field.get("fields") or [])
    if kind in ("INTEGER", "INT64"):
        return int(value)
    if kind in ("FLOAT", "FLOAT64"):
        return float(value)
    return value == "true" if kind in ("BOOLEAN", "BOOL") else value


def _of_batch(values: Iterable[Any], name: str) -> Iterator[Any]:
    """Yields the replies of a batch of OpenAI or Anthropic as messages. A request that failed has no messages."""
    for value in values:
        if not isinstance(value, dict):
            yield None
            continue
        answer = _object(value.get("response") or value.get("result"))
        body = _object(answer.get("body")) or answer
        choices = body.get("choices")
        first = _object(choices[0]) if isinstance(choices, list) and choices else body
        message = first.get("message")
        yield {"messages": [message] if isinstance(message, dict) else None, **value}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_gemini(values: Iterable[Any], name: str) -> Iterator[Any]:
    """Yields requests of Gemini with their contents as messages."""
    for value in values:
        request = value.get("request", value) if isinstance(value, dict) else None
        contents = request.get("contents") if isinstance(request, dict) else None
        if not isinstance(contents, list) or request is None:
            yield None
            continue
        system = request.get("systemInstruction") or request.get("system_instruction")
        turns = [{**system, "role": "system"}] if isinstance(system, dict) else []
        messages = [_gemini_turn(_object(turn)) for turn in (*turns, *contents)]
        inexact = any(set(_object(part)) != {"text"} for turn in contents for part in _object(turn).get("parts") or [])
        rest = {k: v for k, v in value.items() if inexact or k not in ("contents", "systemInstruction", "request")}
        yield {"messages": messages, **rest}


def _gemini_turn(turn: dict[str, Any]) -> dict[str, Any]:
    parts = turn.get("parts") or []
    texts = [part["text"] if isinstance(_object(part).get("text"), str) else dumps(part).decode() for part in parts]
    return {"role": turn.get("role") or "user", "content": "\n".join(texts)}


_Unwrap = Callable[[Iterable[Any], str], Iterator[Any]]
_DIALECTS: dict[str, tuple[re.Pattern[bytes], _Unwrap]] = {
    "elasticsearch-bulk": (
        re.compile(rb'\s*\{\s*"(?:index|create|update|delete)"\s*:\s*\{[^\n{}]*\}\s*\}[ \t\r]*\n\s*\{'),
        _of_bulk,
    ),
    "elasticsearch": (
        re.compile(
            rb'\s*\{(?=[^\n]*"_index"\s*:)[^\n]*"_source"\s*:\s*\{|\s*\{\s*"took"\s*:(?=.*"hits"\s*:\s*\{)', re.DOTALL
        ),
        _of_hits,
    ),
    "bigquery": (
        re.compile(rb'\s*\{\s*"kind"\s*:\s*"bigquery#(?:queryResponse|getQueryResultsResponse|tableDataList)"'),
        _of_bigquery,
    ),
    "batch": (
        re.compile(
            rb'\s*\{(?=[^\n]*"custom_id"\s*:)[^\n]*"(?:response"\s*:\s*\{\s*"status_code"|result"\s*:\s*\{\s*"type"\s*:'
            rb'\s*"(?:succeeded|errored|expired|canceled))'
        ),
        _of_batch,
    ),
    "gemini": (re.compile(rb'\s*\{[^\n]*"contents"\s*:\s*\[\s*\{[^\n\]]*"parts"\s*:\s*\['), _of_gemini),
    "mongodb": (
        re.compile(
            rb'.*?\{\s*"\$(?:oid"\s*:\s*"[0-9a-f]{24}"|date"\s*:|number(?:Long|Int|Double|Decimal)"\s*:\s*")', re.DOTALL
        ),
        _of_mongodb,
    ),
}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files that begin like one of the dialects. The files of each dialect are a claim."""
    found: dict[str, list[SourceFile]] = {}
    for file in source.files:
        if io.extension(file.name) not in EXTENSIONS or (is_about(file.name) and source.folder):
            continue
        head = io.head(file.path, LOOKED_BYTES).removeprefix(b"\xef\xbb\xbf")
        if head.lstrip()[:1] not in (b"{", b"["):
            continue
        dialect = next((name for name, (begins, _) in _DIALECTS.items() if begins.match(head)), "")
        if dialect:
            found.setdefault(dialect, []).append(file)
    return [FormatClaim(JsonDialect(name), tuple(files), 0.97, f"JSON of {name}") for name, files in found.items()]
