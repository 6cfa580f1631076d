"""Reads a few rows of a shard by code that shares nothing with the adapters: `json`, `csv`, `zipfile`, pyarrow's own readers.

A reader yields rows near the start of a shard, and more from its middle and its end where that is cheap. A shard that no reader
can read yields nothing; then there is nothing to compare.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters.base import Adapter, Shard, SourceFile
from choline_data.places.locations import local_path

ROWS = 12  # rows that are read from one place of a shard
HEAD_BYTES = 4 << 20
TAIL_BYTES = 256 << 10
CELLS_BYTES = 1 << 20  # a table file of at most so many bytes is read whole
DOCUMENT_BYTES = 16 << 20
_SHIFTS = re.compile(rb"\x1b|~\{")  # encodings that write other characters with ASCII bytes: ISO-2022, HZ
_MEMBER = re.compile(r"^(?P<archive>.*?)!/[0-9@+]+/(?P<name>.+)$", re.DOTALL)


@dataclass(frozen=True)
class SourceRow:
    """A row of the source. `place` counts the rows of the shard, `number` is the row's number in `origin.row`.

    Both are -1 for the last row, if its number is not known.
    `named` says that the keys of `values` are the adapter's columns. Otherwise only the values can be compared.
    """

    place: int
    number: int
    values: dict[str, Any]
    named: bool = True


@dataclass(frozen=True)
class Pixels:
    """The grey pixels of a picture."""

    width: int
    height: int
    values: bytes

    def are_those_of(self, encoded: bytes) -> bool:
        """Whether the encoded picture has these pixels. True if there is no library that decodes it."""
        try:
            from PIL import Image
        except ImportError:
            return True
        with Image.open(io.BytesIO(encoded)) as picture:
            return bool(picture.size == (self.width, self.height) and picture.convert("L").tobytes() == self.values)


Reader = Callable[[Any, Shard], Iterator[SourceRow]]


def rows_of(adapter: Adapter, shard: Shard) -> Iterator[SourceRow]:
    """Yields some rows of the shard, read without the adapter. Nothing if there is no other way to read them."""
    reader = _READERS.get(type(adapter).__name__)
    if reader is None or local_path(shard.path.partition("!/")[0]) is None:
        return
    # What another reader cannot read shows nothing about our own.
    try:
        yield from reader(adapter, shard)
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        ImportError,
        RecursionError,
        NotImplementedError,
    ):
        return
    except (pa.ArrowException, csv.Error, sqlite3.Error, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError):
        return


def count_of(adapter: Adapter, shard: Shard) -> int:
    """Returns the number of rows of the shard, where the source states it; -1 if it does not."""
    counter = _COUNTERS.get(type(adapter).__name__)
    if counter is None or local_path(shard.path.partition("!/")[0]) is None:
        return -1
    try:
        return counter(shard)
    except (OSError, ValueError, LookupError, pa.ArrowException, sqlite3.Error, tarfile.TarError, zipfile.BadZipFile):
        return -1


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The decompressed content of a local file or of an archive's member."""
    with ExitStack() as stack:
        match = _MEMBER.match(path)
        raw: IO[bytes] = stack.enter_context(Path(local_path(match["archive"] if match else path) or "").open("rb"))
        if match is not None:
            raw = _member(stack, raw, match["name"])
        head = raw.read(6)
        raw.seek(0)
        if head.startswith(b"\x1f\x8b"):
            yield cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw)))
        elif head.startswith(b"BZh"):
            yield stack.enter_context(bz2.BZ2File(raw))
        elif head.startswith(b"\xfd7zXZ"):
            yield stack.enter_context(lzma.LZMAFile(raw))
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            yield stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))
        else:
            yield raw


def _member(stack: ExitStack, raw: IO[bytes], name: str) -> IO[bytes]:
    """The only member of an archive with this name. Raises KeyError if several have it, because it is unknown which is meant."""
    if zipfile.is_zipfile(raw):
        zipped = stack.enter_context(zipfile.ZipFile(raw))
        if zipped.namelist().count(name) > 1:
            raise KeyError(name)
        return stack.enter_context(zipped.open(name))
    raw.seek(0)
    archive = stack.enter_context(tarfile.TarFile.open(fileobj=raw))
    found = archive.extractfile(name) if archive.getnames().count(name) == 1 else None
    if found is None:
        raise KeyError(name)
    return found


def _head(path: str, limit: int = HEAD_BYTES) -> tuple[bytes, bool]:
    """Returns the first bytes, and whether they are the whole content."""
    with _opened(path) as file:
        data = file.read(limit + 1)
    return data[:limit], len(data) <= limit


def _parquet(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _opened(shard.path) as raw, pq.ParquetFile(raw) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        end = shard.end if shard.end >= 0 else len(groups)
        before = sum(groups[: shard.start])
        for group in sorted({shard.start, (shard.start + end) // 2, end - 1}):
            about = file.metadata.row_group(group) if 0 <= group < len(groups) else None
            if about is None or about.total_byte_size > HEAD_BYTES * max(about.num_rows, 1) // ROWS:
                continue
            first = sum(groups[:group])
            batch = next(file.iter_batches(ROWS // 2, row_groups=[group], use_threads=False), None)
            for at, values in enumerate(_values(batch) if batch is not None else ()):
                yield SourceRow(first + at - before, first + at, values)


def _values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the rows without times, which are written in many ways, and for which pyarrow would import pandas."""
    kept = [field.name for field in batch.schema if not pa.types.is_temporal(field.type)]
    return list(batch.select(kept).to_pylist())


def _arrow(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _opened(shard.path) as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic == b"ARROW1":
            with pa.ipc.open_file(pa.PythonFile(raw, "r")) as file:
                batch = file.get_batch(0)
        else:
            with pa.ipc.open_stream(pa.PythonFile(raw, "r")) as stream:
                batch = next(iter(stream))
    for at, values in enumerate(_values(batch.slice(0, ROWS))):
        yield SourceRow(at, at, values)


def _encoding(adapter: Any, shard: Shard) -> str:
    """Returns the encoding that was decided for the shard, which the plan showed; UTF-8 if none was."""
    stated = str(shard.encoding or adapter.encoding or "utf-8").lower()
    return "utf-8-sig" if stated in ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii") else stated


def _json_lines(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    if _encoding(adapter, shard) != "utf-8-sig":
        return
    with _opened(shard.path) as file:
        if shard.start:
            file.seek(shard.start - 1)
            file.readline()
        lines = (line for line in iter(lambda: file.readline(HEAD_BYTES), b"") if line.strip())
        for at, line in enumerate(islice(lines, ROWS)):
            text = line.decode("utf-8-sig" if at == 0 and not shard.start else "utf-8")
            yield from _object(at, json.loads(text, strict=False))
    if shard.end < 0 and (last := _last_line(shard.path)):
        yield from _object(-1, json.loads(last.decode(), strict=False))


def _last_line(path: str) -> bytes:
    """Returns the last line of a plain file that is not empty; b"" if it is not in the last bytes."""
    if "!/" in path:
        return b""
    with Path(local_path(path) or "").open("rb") as file:
        if file.read(3)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5", b"\x04\x22"):
            return b""
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - TAIL_BYTES, 0))
        _, newline, line = file.read().rstrip().rpartition(b"\n")
    return line if newline else b""


def _object(at: int, value: Any) -> Iterator[SourceRow]:
    if isinstance(value, dict):
        yield SourceRow(at, at, value)


def _json_document(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    data, whole = _head(shard.path, DOCUMENT_BYTES)
    if not whole:
        return
    document = json.loads(data.decode(_encoding(adapter, shard)))
    lists = [value for value in document.values() if isinstance(value, list)] if isinstance(document, dict) else []
    if shard.member:
        document = document[shard.member]
    rows = lists[0] if len(lists) == 1 and not any(isinstance(v, dict) for v in document.values()) else document
    if isinstance(rows, list) and len(rows) > 1 and all(isinstance(row, dict) for row in rows):
        for at in _ends(len(rows)):
            yield SourceRow(at, at, rows[at])


def _ends(count: int, half: int = ROWS // 2) -> list[int]:
    """Returns the places of the first and the last rows, if there are `count` rows."""
    return sorted({*range(min(half, count)), *range(max(count - half, 0), count)})


def _delimited(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    encoding = _encoding(adapter, shard)
    dialect = adapter.dialect(shard.path, shard.name, encoding)
    if len(dialect.delimiter) != 1 or dialect.delimiter == " " or dialect.blank_lines or len(dialect.names) == 1:
        return
    data, whole = _head(shard.path, CELLS_BYTES)
    text = io.StringIO(data.decode(encoding, "strict" if whole else "ignore"), newline="")
    for _ in range(dialect.skip):
        text.readline()
    rows = csv.reader(text, delimiter=dialect.delimiter, skipinitialspace=dialect.blank_after)
    cells: list[str] = []
    at = -1
    for at, cells in enumerate(rows if whole else islice(rows, ROWS)):
        if len(cells) != len(dialect.names):
            return  # the row was rejected, and rows after it may have other numbers
        if at < ROWS:
            yield SourceRow(at, at, dict(zip(dialect.names, cells, strict=True)))
    if not whole:
        last = _last_line(shard.path).decode(encoding) if encoding.startswith(("utf-8", "latin", "cp125")) else '"'
        at, cells = -1, [] if '"' in last else last.split(dialect.delimiter)
        if dialect.blank_after:
            cells = [cell.lstrip(" ") for cell in cells]
    if len(cells) == len(dialect.names):
        yield SourceRow(at, at, dict(zip(dialect.names, cells, strict=True)))


@contextmanager
def _table(shard: Shard) -> Iterator[tuple[sqlite3.Connection, str]]:
    """The database, and the quoted name of the shard's table."""
    uri = f"{Path(local_path(shard.path) or '').absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as base:
        yield base, '"' + shard.member.replace('"', '""') + '"'


def _sqlite(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _table(shard) as (base, table):
        cursor = base.execute(f"SELECT * FROM {table} ORDER BY rowid LIMIT {ROWS}")
        names = [column[0] for column in cursor.description]
        for at, cells in enumerate(cursor):
            yield SourceRow(at, at, dict(zip(names, cells, strict=True)))


def _text(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    if adapter.unit == "document":
        files = shard.files or (SourceFile(shard.path, shard.name),)
        for at in _ends(len(files), 2):
            data, whole = _head(files[at].path)
            if whole and not _SHIFTS.search(data):
                text = data.decode(_encoding(adapter, shard))
                yield SourceRow(at, at, {"text": text, "path": files[at].name})
        return
    if adapter.unit == "line":
        data, whole = _head(shard.path)
        text = data.decode(_encoding(adapter, shard), "strict" if whole else "ignore")
        lines = [line for line in text.split("\n") if line.strip()]
        for at, line in enumerate(lines[:ROWS]):
            yield SourceRow(at, at, {"text": line.removesuffix("\r")})


def _media(column: str) -> Reader:
    def read(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
        from choline_data.adapters.reading.media import column_for

        files = [file for file in shard.files if column_for(file.name) == column]
        for at in _ends(len(files), 2):
            data, whole = _head(files[at].path)
            if whole:
                yield SourceRow(at, at, {column: data}, named=False)

    return read


def _idx(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _opened(shard.path) as raw:
        _, count, height, width = (int.from_bytes(raw.read(4), "big") for _ in range(4))
        for at in range(min(ROWS, count)):
            yield SourceRow(at, at, {"image": Pixels(width, height, raw.read(width * height))}, named=False)


def _webdataset(adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _opened(shard.path) as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
        rows: list[tuple[str, dict[str, Any]]] = []
        for member in archive:
            name = member.name.removeprefix("./")
            key, dot, suffix = name.rpartition("/")[2].partition(".")
            key = name[: len(name) - len(suffix) - len(dot)]
            if not member.isfile() or not dot or name.rpartition("/")[2].startswith("."):
                return
            if not rows or rows[-1][0] != key or suffix in rows[-1][1]:
                if len(rows) == ROWS:
                    break
                rows.append((key, {}))
            data = archive.extractfile(member)
            rows[-1][1][suffix] = data.read() if data is not None else b""
    for at, (_, found) in enumerate(rows):
        yield SourceRow(at, at, {suffix: _as_text(suffix, data) for suffix, data in found.items()}, named=False)


def _as_text(suffix: str, data: bytes) -> Any:
    if suffix == "json":
        return json.loads(data)
    return data.decode().strip() if suffix in ("txt", "cls", "text", "caption") else data


def _parquet_rows(shard: Shard) -> int:
    with _opened(shard.path) as raw, pq.ParquetFile(raw) as file:
        end = shard.end if shard.end >= 0 else file.num_row_groups
        return sum(file.metadata.row_group(group).num_rows for group in range(shard.start, end))


def _sqlite_rows(shard: Shard) -> int:
    with _table(shard) as (base, table):
        return int(base.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


_COUNTERS: dict[str, Callable[[Shard], int]] = {"Parquet": _parquet_rows, "Sqlite": _sqlite_rows}
_READERS: dict[str, Reader] = {
    "Parquet": _parquet,
    "ArrowFile": _arrow,
    "JsonLines": _json_lines,
    "JsonDocument": _json_document,
    "Delimited": _delimited,
    "Sqlite": _sqlite,
    "Text": _text,
    "Idx": _idx,
    "ImageFolder": _media("image"),
    "AudioFolder": _media("audio"),
    "WebDataset": _webdataset,
}
