"""Reads JSON documents: finds the rows, and the values that accompany them.

The rows may be an array of objects; an array under a key (`{"canary": …, "examples": […]}`), whose other keys become columns;
GeoJSON features; objects keyed by id (the key becomes the column `key`); columns as lists or as pandas writes them; or an array
of scalars (a column `value`). Anything else is one row. A top-level array of any size is read piece by piece. Any other
document may have at most `max_document_bytes`. Integers beside floats in a column stay integers. A key that a row
lacks is read as null, so a missing key and an explicit null become the same.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile, from_row
from choline_data.adapters.reading import batches, io, json_arrays, plain_files, records, text_files
from choline_data.adapters.reading.split_words import splits_in
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

MAX_DOCUMENT = 64 << 20
MIN_ENTRIES, MOST_ENTRY_KEYS = 20, 8
CONSTANT_BYTES = 4 << 10  # values beside the rows are copied to each row up to this size
EXTENSIONS = frozenset({"json", "geojson"})
_BLANK = " \t\r\n"
_FIRST_KEY = re.compile(rb'\s*\{\s*"([^"\\]{1,64})"\s*:\s*\[')


@dataclass(frozen=True)
class JsonDocument:
    """Reads JSON documents, compressed or not. `encoding` overrides the detected encoding."""

    max_document_bytes: int = MAX_DOCUMENT
    max_row_bytes: int = MAX_ROW_BYTES
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file. A document of splits, `{"train": […], "test": […]}`, has one for each of its keys."""
        parted = [(file, self._splits(file) or [("", "")]) for file in files]
        return [
            Shard(file.path, file.name, member=key, size=file.size // len(keys), split=split)
            for file, keys in parted
            for key, split in keys
        ]

    def _splits(self, file: SourceFile) -> list[tuple[str, str]]:
        """Returns the keys of a document of splits, and their splits. Looks into a document only if it begins like one."""
        first = _FIRST_KEY.match(io.head(file.path, 4 << 10).removeprefix(codecs.BOM_UTF8))
        if first is None or not splits_in(first[1].decode("utf-8", "replace")):
            return []
        try:
            document = self._document(Shard(file.path, file.name))
        except (SourceDamagedError, SourceTooLargeError):
            return []  # `read` raises the error for this file
        splits = {key: splits_in(key) for key, value in document.items() if isinstance(value, list)}
        if len(splits) < 2 or any(len(words) != 1 for words in splits.values()):
            return []
        return [(key, words[0]) for key, words in splits.items()]

    def _document(self, shard: Shard) -> Any:
        encoding = shard.encoding or text_files.encoding_of(shard.path, shard.name, self.encoding)
        data = bytearray()
        for piece in text_files.utf8_pieces(io.pieces(shard.path, shard.name), shard.name, encoding):
            data += piece
            if len(data) > self.max_document_bytes:
                raise self._too_large(shard.name)
        return self._loaded(bytes(data), shard.name)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the document's rows from row `start` on."""
        parsed = records.records_of_rows(self._rows(shard))
        return from_row(start, batches.partitioned(records.chunks(parsed, shard.origin, 0), shard.name))

    def _rows(self, shard: Shard) -> Iterator[Any]:
        if shard.member:
            yield from _listed(self._document(shard)[shard.member], "value")
            return
        data = bytearray()
        encoding = shard.encoding or text_files.encoding_of(shard.path, shard.name, self.encoding)
        pieces = text_files.utf8_pieces(io.pieces(shard.path, shard.name), shard.name, encoding)
        for piece in pieces:
            data += piece
            if len(data) > self.max_document_bytes:
                break
        else:
            document = self._loaded(bytes(data), shard.name)
            yield from rows_of(document) if document is not None else ()
            return
        if data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] != b"[":
            raise self._too_large(shard.name)
        yield from self._elements(bytes(data), pieces, shard.name)

    def _too_large(self, name: str) -> SourceTooLargeError:
        return SourceTooLargeError(
            f"{name} is a JSON document of over {self.max_document_bytes:,} bytes (max_document_bytes).",
            remedy="Make JSON Lines of it: jq -c '.rows[]' FILE > FILE.jsonl, with the key of its rows.",
        )

    def _loaded(self, data: bytes, name: str) -> Any:
        if not data.strip():
            return None
        try:
            return records.checked_loads(data)
        except ValueError as error:
            raise SourceDamagedError(
                f"{name}: {one_line(error, 160)}, after {len(data):,} bytes at most.",
                remedy="Fetch it again, or correct it; JSON Lines are named .jsonl.",
            ) from error

    def _elements(self, first: bytes, pieces: Iterator[bytes], name: str) -> Iterator[Any]:
        """Yields the elements of a top-level array. Holds only one element and one piece of the file at a time."""
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        scan = json.JSONDecoder(parse_constant=_no_constant).raw_decode
        text, at, more, wanted = "", -1, True, 0
        waiting: bytes | None = first
        count = 0
        while True:
            try:
                while more and len(text) - max(at, 0) <= wanted:
                    piece = waiting if waiting is not None else next(pieces, b"")
                    waiting, more = None, bool(piece)
                    text, at = text[max(at, 0) :] + decoder.decode(piece, not piece), min(at, 0)
                if at < 0:
                    at = text.index("[") + 1
                at = _past(text, at, _BLANK + ",")
                if text[at : at + 1] == "]":
                    return
                value, end = scan(text, at)
                if end >= len(text) - 1 and more:  # a number at the end may continue in the next piece
                    wanted = len(text) - at + plain_files.READ_BYTES
                    continue
            except (ValueError, RecursionError) as error:
                if more and len(text) - at <= self.max_row_bytes and not isinstance(error, RecursionError):
                    wanted = 2 * (len(text) - at) + plain_files.READ_BYTES
                    continue
                raise SourceDamagedError(
                    f"{name}: element {count} of the array is truncated, not JSON, or over {self.max_row_bytes:,} bytes "
                    f"(max_row_bytes): {one_line(error, 120)}.",
                    remedy="Fetch it again, or correct it.",
                ) from error
            at, wanted = end, 0
            count += 1
            yield value


ADAPTER = JsonDocument


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _past(text: str, at: int, passed: str) -> int:
    while at < len(text) and text[at] in passed:
        at += 1
    return at


def rows_of(document: Any) -> list[Any]:
    """Returns the rows of a whole document."""
    if isinstance(document, list):
        return json_arrays.rows_of_arrays(document) or _listed(document, "value")
    if not isinstance(document, dict):
        return [{"value": document}]
    for reading in (
        json_arrays.with_names,
        json_arrays.bindings,
        _questions,
        _under_key,
        _columns,
        _keyed,
        _lists_under_key,
    ):
        rows = reading(document)
        if rows is not None:
            return rows
    return [document]


def _listed(values: list[Any], name: str) -> list[Any]:
    """Returns the objects unchanged. If most values are not objects, each value becomes a row with one column."""
    objects = sum(isinstance(v, dict) for v in values)
    return values if objects * 2 > len(values) else [{name: v} for v in values]


def _questions(document: dict[str, Any]) -> list[Any] | None:
    """Returns the questions of SQuAD and of sets in its layout: `{"data": [{"title", "paragraphs": [{"context", "qas": […]}]}]}`.

    Each question is a row, with the values of its paragraph, its article and the document beside it.
    """
    articles = document.get("data")
    about = {k: v for k, v in document.items() if k != "data"}
    if not _all_have(articles, "paragraphs") or len(records.dumps(about)) > CONSTANT_BYTES:
        return None
    rows: list[Any] = []
    for article in articles:
        if not _all_have(article["paragraphs"], "qas"):
            return None
        of_article = about | {k: v for k, v in article.items() if k != "paragraphs"}
        for paragraph in article["paragraphs"]:
            if not _all_have(paragraph["qas"], "question"):
                return None
            of_paragraph = of_article | {k: v for k, v in paragraph.items() if k != "qas"}
            rows += [of_paragraph | question for question in paragraph["qas"]]
    return rows


def _all_have(values: object, key: str) -> TypeGuard[list[dict[str, Any]]]:
    """Returns whether `values` is a list of objects that all have this key."""
    return isinstance(values, list) and all(isinstance(value, dict) and key in value for value in values)


def _under_key(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of the longest list of objects at the top level, or else of the only list.

    The values of the other keys are copied to each row if they are small.
    """
    objects = {k: v for k, v in document.items() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)}
    if not objects:
        lists = [k for k, v in document.items() if isinstance(v, list)]
        if len(lists) != 1 or any(isinstance(v, dict) for v in document.values()):
            return None
        key = lists[0]
        if len(document[key]) < 2:
            return None
    else:
        sizes = sorted((len(v) for v in objects.values()), reverse=True)
        if len(sizes) > 1 and sizes[0] < 4 * sizes[1]:
            return None  # several tables in one document, so no single list holds the rows
        key = max(objects, key=lambda k: len(objects[k]))
    beside = {k: v for k, v in document.items() if k != key}
    if document.get("type") == "FeatureCollection" and key == "features":
        beside.pop("type")
    if len(records.dumps(beside)) > CONSTANT_BYTES:
        return None
    rows = _listed(document[key], key)
    if not beside:
        return rows
    names = {name for row in rows if isinstance(row, dict) for name in row}
    beside = {(f"document.{k}" if k in names else k): v for k, v in beside.items()}
    return [{**row, **beside} if isinstance(row, dict) else row for row in rows]


def _columns(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of columns that are lists of equal length, or `{column: {"0": …, "1": …}}` as pandas writes by default."""
    values = list(document.values())
    if len(values) < 2:
        return None
    lists = all(isinstance(v, list) and not any(isinstance(cell, dict) for cell in v) for v in values)
    if lists and len({len(v) for v in values}) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if not all(isinstance(v, dict) and v for v in values):
        return None
    keys = list(values[0])
    scalar = all(not isinstance(cell, dict) for v in values for cell in v.values())
    if keys != [str(i) for i in range(len(keys))] or not scalar or any(list(v) != keys for v in values):
        return None
    return [{name: column[key] for name, column in document.items()} for key in keys]


def _keyed(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of objects with similar keys, each under its own id."""
    values = list(document.values())
    if len(values) < 2 or not all(isinstance(v, dict) and v for v in values):
        return None
    common = set.intersection(*(set(v) for v in values))
    if len(common) * 2 < max(len(v) for v in values) and not _are_entries(values):
        return None
    name = "key" if not any("key" in v for v in values) else "document.key"
    return [{name: key, **value} for key, value in document.items()]


def _are_entries(values: list[dict[str, Any]]) -> bool:
    """Returns whether the objects are rows in which most keys may be missing: there are many objects, few keys in all,
    and each object has some of them.
    """
    keys = {key for value in values for key in value}
    return len(values) >= MIN_ENTRIES and len(keys) <= max(MOST_ENTRY_KEYS, 2 * max(map(len, values))) < len(values)


def _lists_under_key(document: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of the only list of lists of words, such as `{"categories": […], "conversations": [["Hi", "Hello"], …]}`.

    Numbers and booleans among the words become text. A single word in place of a list becomes a list of this word. The other
    values are copied to each row if they are small.
    """
    keys_of_lists = [k for k, v in document.items() if isinstance(v, list) and _are_lists_of_words(v)]
    if len(keys_of_lists) != 1:
        return None
    key = keys_of_lists[0]
    beside = {k: v for k, v in document.items() if k != key}
    scalars = (v if isinstance(v, list) else [v] for v in beside.values())
    if any(isinstance(cell, (dict, list)) for cells in scalars for cell in cells):
        return None
    if len(records.dumps(beside)) > CONSTANT_BYTES:
        return None
    rows = (row if isinstance(row, list) else [row] for row in document[key])
    return [{**beside, key: [_word(cell) for cell in row]} for row in rows]


def _are_lists_of_words(values: list[Any]) -> bool:
    lists = sum(isinstance(value, list) for value in values)
    return 2 * lists > len(values) and all(isinstance(v, str) or _is_words(v) for v in values)


def _is_words(row: Any) -> bool:
    return (
        isinstance(row, list)
        and any(isinstance(cell, str) for cell in row)
        and not any(isinstance(cell, (dict, list)) for cell in row)
    )


def _word(cell: Any) -> str | None:
    return cell if cell is None or isinstance(cell, str) else json.dumps(cell)


def detect(source: Source) -> list[FormatClaim]:
    """Claims files named .json or .geojson, and .txt, .data and files without an extension that begin like JSON.

    Raises SourceFormatError if all files of the source are tokenizers.
    """
    files = tuple(f for f in source.files if _is_document(f))
    tokenizers = tuple(f for f in files if _is_tokenizer(f))
    if tokenizers and len(tokenizers) == len(source.files):
        raise SourceFormatError(
            f"{tokenizers[0].name} is a tokenizer, not a dataset.",
            remedy="Use it with `choline-data tokenize NAME --tokenizer` and its path.",
        )
    files = tuple(f for f in files if f not in tokenizers)
    if not files:
        return []
    beside = {f.name for f in source.files} - {f.name for f in files}
    data = [n for n in beside if io.extension(n) not in ("md", "rst", "license", "")]
    described = tuple(f for f in files if len(files) < len(data) and _is_one_row(f))
    return [
        FormatClaim(
            JsonDocument(),
            tuple(f for f in files if f not in described),
            0.85,
            "JSON documents",
            passed_over=tuple((f.name, "a tokenizer") for f in tokenizers),
            described=tuple((f.name, "one object that describes the files beside it") for f in described),
        )
    ]


def _is_document(file: SourceFile) -> bool:
    extension = io.extension(file.name)
    if extension not in EXTENSIONS and extension not in ("", "txt", "data"):
        return False
    begin = io.head(file.path, 512).removeprefix(codecs.BOM_UTF8).lstrip()
    if extension in EXTENSIONS:
        return not begin or begin[:1] in b"{[\xff\xfe" or begin[:1] in b'"-0123456789tfn'
    return begin[:1] == b"{" or begin[:2] in (b"[{", b"[\n", b"[ ", b"[[")


def _is_tokenizer(file: SourceFile) -> bool:
    """Returns whether the file is a `tokenizer.json` of the tokenizers library. It is recognised by its first keys."""
    return (
        re.match(rb'\{\s*"version":[^,]+,\s*"truncation":.*"added_tokens":', io.head(file.path, 4096), re.S) is not None
    )


def _is_one_row(file: SourceFile) -> bool:
    data = io.head(file.path, 1 << 20)
    try:
        document = records.checked_loads(data.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        return False
    return isinstance(document, dict) and len(rows_of(document)) == 1
