"""Reads tables whose rows name media beside them, with the media: `metadata` of Kaggle, LLaVA, Common Voice, ESC-50, NeMo.

A column of a CSV, TSV, JSON or JSON Lines file names a picture, clip or video of the source in most of its rows, by a path,
the end of a path, or a name without extension. Each row is a sample. A row that names a file which is not there is rejected; a
row that names none has no medium. `--join FILE:COLUMN` says which column it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_BYTES,
    Adapter,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
)
from choline_data.adapters.reading import io, media, members
from choline_data.adapters.reading.chosen_names import ChosenNames
from choline_data.adapters.reading.folder_metadata import has_file_names, is_metadata
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES, MEDIUM
from choline_data.adapters.reading.media_names import MediaNames
from choline_data.adapters.reading.media_paths import path_of
from choline_data.adapters.reading.names import is_about, parts
from choline_data.adapters.reading.split_words import splits_in
from choline_data.columns.arrow_values import array_of
from choline_data.errors import ChoiceNeededError, CholineDataError, MissingFieldError, SourceFormatError, one_line

SAMPLE_ROWS = 256
SHARE = 0.5  # a column names media if this share of its sampled values does
AT_ONCE = 1024
MAX_TABLES = 32
_FORMATS = {
    "csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "parquet": "parquet", "txt": "csv",
}  # fmt: skip
_TIMES = ({"begin_time", "end_time"}, {"start_time", "end_time"}, {"start", "end"}, {"begin", "end"})
_SAID = {"text", "text_tn", "sentence", "transcript", "transcription", "words"}
_NO_NAME = re.compile(r"^column_\d+$")
_SUBMISSION = re.compile(r"^sample_?submission", re.IGNORECASE)


@dataclass(frozen=True)
class MediaTable:
    """Reads a table with `inner`, and adds the media that its column `key` names as the column `column`."""

    inner: Adapter
    key: str
    column: str = "image"
    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns the shards of the tables. Each shard lists all media files, because a row can name any of them."""
        media_files = tuple(f for f in files if media.column_for(f.name))
        tables = [f for f in files if not media.column_for(f.name)]
        return [replace(shard, files=media_files) for shard in self.inner.shards(tables)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the table with their media."""
        names = MediaNames(shard.files, shard.name)
        for chunk in self.inner.read(replace(shard, files=()), start=start):
            if chunk.rejects:
                yield SourceChunk(chunk.batch.slice(0, 0), chunk.rows[:0], chunk.rejects)
            yield from self._joined(chunk, names, shard)

    def _joined(self, chunk: SourceChunk, names: MediaNames, shard: Shard) -> Iterator[SourceChunk]:
        at = chunk.batch.schema.get_field_index(self.key)
        values: list[Any] = chunk.batch.column(at).to_pylist() if at >= 0 else [None] * chunk.batch.num_rows
        wanted = [[names.find(item) for item in _items(value)] for value in values]
        first = 0
        while first < len(values):
            count = _count(wanted[first:])
            yield self._piece(chunk, first, values[first : first + count], wanted[first : first + count], shard)
            first += count

    def _piece(
        self, chunk: SourceChunk, first: int, values: list[Any], wanted: list[list[SourceFile | None]], shard: Shard
    ) -> SourceChunk:
        """Returns the rows from `first` on with their media. Rows whose media are missing or damaged become rejects."""
        files = {file.path: file for row_media in wanted for file in row_media if file is not None}
        data = {f.path: content for f, content in members.contents(list(files.values()), self.max_bytes, inflate=False)}
        indices: list[int] = []
        rejects: list[Reject] = []
        column: list[Any] = []
        for row, (value, row_media) in enumerate(zip(values, wanted, strict=True)):
            fault = next(
                filter(None, (self._fault(i, f, data) for i, f in zip(_items(value), row_media, strict=True))), ""
            )
            if fault:
                rejects.append(Reject(shard.origin, int(chunk.rows[first + row]), fault))
                continue
            indices.append(first + row)
            media_here = [{"bytes": data[f.path], "path": f.name} for f in row_media if f is not None]
            column.append(media_here if isinstance(value, list) else (media_here[0] if media_here else None))
        batch = self._with_media(chunk.batch.take(array_of(np.array(indices, np.int64))), column)
        return SourceChunk(batch, chunk.rows[indices], tuple(rejects))

    def _fault(self, value: object, file: SourceFile | None, data: dict[str, bytes | None]) -> str:
        if file is None:
            return f"{self.key} names {value!r}, which is not there, or is there several times"
        content = data[file.path]
        if content is None:
            return f"{file.name} is above {self.max_bytes:,} bytes (max_bytes)"
        fault = media.probe(content, self.column).fault
        return f"{file.name}: {fault}" if fault else ""

    def _with_media(self, batch: pa.RecordBatch, values: list[Any]) -> pa.RecordBatch:
        listed = any(isinstance(value, list) for value in values)
        column = pa.array(values, pa.list_(MEDIUM) if listed else MEDIUM)
        at = batch.schema.get_field_index(self.key)
        field = pa.field(self.key if at >= 0 and self.key == _named(batch, self.column) else self.column, column.type)
        if at >= 0 and field.name == self.key:
            return batch.set_column(at, field, column)
        name = self.column if self.column not in batch.schema.names else f"{self.column}_file"
        return batch.add_column(0, field.with_name(name), column)


ADAPTER = MediaTable


def _named(batch: pa.RecordBatch, column: str) -> str:
    """Returns the first column whose name is that of a medium, such as `image` or `images`; "" if there is none."""
    return next((name for name in (column, f"{column}s", f"{column}_path") if name in batch.schema.names), "")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None or value == "" else [value]


def _count(wanted: list[list[SourceFile | None]]) -> int:
    """Returns how many rows to read together, so that their media stay below BATCH_BYTES."""
    size = count = 0
    for row_media in wanted[:AT_ONCE]:
        size += sum(max(f.size, 0) for f in row_media if f is not None)
        if count and size > BATCH_BYTES:
            break
        count += 1
    return count


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for each table that names media, with the media."""
    media_files = [f for f in source.files if media.column_for(f.name)]
    if not media_files:
        return []
    claims = []
    over: list[tuple[str, str]] = []
    joins = _asked(source)
    tables = [f for f in source.files if io.extension(f.name) in _FORMATS]
    for table in tables if len(tables) <= MAX_TABLES or joins else ():
        fmt = _FORMATS.get(io.extension(table.name), "")
        key = next((key for names, key in joins if names.names(table.name)), "")
        if (
            not fmt
            or is_about(table.name)
            or (joins and not key)
            or (is_metadata(table.name) and has_file_names(table))
        ):
            continue
        if _SUBMISSION.match(parts(table.name)[-1]):
            over.append((table.name, "a sample of a submission, whose values are not true"))
            continue
        if (claim := _claim(table, fmt, media_files, key)) is not None:
            claims.append(claim)
    claims, left = _without_unchecked(claims, tables)
    claims, less = _without_lesser(claims)
    left += less
    if claims:
        claims[0] = replace(claims[0], passed_over=(*over, *left))
    return claims


def _asked(source: Source) -> list[tuple[ChosenNames, str]]:
    """Parses `--join`. Returns the pattern of file names and the column of each value."""
    pairs = [text.rpartition(":") for text in source.join]
    for pattern, _, column in pairs:
        if not pattern or not column:
            raise SourceFormatError(
                "--join has the form FILE:COLUMN.", remedy="For example --join labels.csv:filename."
            )
    return [(ChosenNames((pattern,)), column) for pattern, _, column in pairs]


def _claim(table: SourceFile, fmt: str, found: Sequence[SourceFile], key: str) -> FormatClaim | None:
    """Returns the claim of a table. None if no column names media."""
    inner = _reader(table, fmt)
    batch = _first_rows(inner, table) if inner is not None else None
    if inner is None or batch is None:
        return None
    names = MediaNames(found, table.name)
    if key and key not in batch.schema.names:
        raise MissingFieldError(key, table.name, batch.schema.names)
    best = max(
        ((*_hits(batch, name, names), name) for name in ([key] if key else batch.schema.names)),
        key=lambda hits: (hits[0], _extensions(batch, hits[2])),
        default=(0.0, [], ""),
    )
    share, files, column = best
    if not files or (share < SHARE and not key):
        if key:
            raise SourceFormatError(
                f"{table.name}: the values of {key!r} name no media of the source.", remedy="Name another column."
            )
        return None
    _refuse_parts(table, batch)
    if not key and (_NO_NAME.match(column) or names.find(column) is not None):
        return None  # a list without a header: `audio_folder` knows the columns of such lists
    kinds = [media.column_for(f.name) for f in files]
    kind = max(sorted(set(kinds)), key=kinds.count)
    of_kind = tuple(f for f in found if media.column_for(f.name) == kind)
    return FormatClaim(
        MediaTable(inner, column, kind),
        (table, *_named_only(inner, table, column, of_kind)),
        1.0,
        f"the column {column!r} of {table.name} names {kind} files",
        joined=((table.name, f"its column {column!r} names the {kind} files"),),
    )


def _reader(table: SourceFile, fmt: str) -> Adapter | None:
    """Returns the adapter of a table, if it knows the table by its content. Lines of transcripts are not a table."""
    from choline_data.adapters.registry import format_named

    for name in ("jsonl", "json") if fmt == "json" else (fmt,):
        try:
            claims = format_named(name).load().detect(Source("", (table,)))
        except ChoiceNeededError:
            continue  # it may be a text, such as a list of classes
        if claims and any(claim.files for claim in claims):
            adapter: Adapter = claims[0].adapter
            return adapter
    return None


def _first_rows(inner: Adapter, table: SourceFile) -> pa.RecordBatch | None:
    try:
        for shard in inner.shards([table])[:1]:
            for chunk in inner.read(shard):
                if chunk.batch.num_rows:
                    return chunk.batch.slice(0, SAMPLE_ROWS)
    except CholineDataError:
        return None  # the adapter of the table itself reports the damage
    return None


def _hits(batch: pa.RecordBatch, name: str, names: MediaNames) -> tuple[float, list[SourceFile]]:
    """Returns the share of the column's values that name media, and these media."""
    kind = batch.schema.field(name).type
    if pa.types.is_list(kind) and not pa.types.is_string(kind.value_type):
        return 0.0, []
    if not (
        pa.types.is_list(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
    ):
        return 0.0, []
    values = [item for value in batch[name].to_pylist() for item in _items(value)]
    files = [file for file in map(names.find, values) if file is not None]
    if pa.types.is_integer(kind) and len({f.path for f in files}) < len(values):
        return 0.0, []  # numbers can be ids of media only if each row has a different one
    return len(files) / max(len(values), 1), files


def _extensions(batch: pa.RecordBatch, name: str) -> int:
    """Returns how many values of a column end in an extension of media files."""
    values = (item for value in batch[name].to_pylist() for item in _items(value))
    return sum(isinstance(value, str) and bool(media.column_for(value)) for value in values)


def _refuse_parts(table: SourceFile, batch: pa.RecordBatch) -> None:
    if {"offset", "duration"} <= set(batch.schema.names) and any(value for value in batch["offset"].to_pylist()):
        raise SourceFormatError(
            f"{table.name}: its rows are parts of recordings (offset and duration), which are not cut here.",
            remedy="Write one file for each row: lhotse or NeMo's scripts cut recordings.",
        )
    for field in batch.schema:
        inner = field.type.value_type if pa.types.is_list(field.type) else None
        names = {inner.field(at).name for at in range(inner.num_fields)} if inner is not None else set()
        if any(times <= names for times in _TIMES) and names & _SAID and not _SAID & set(batch.schema.names):
            raise SourceFormatError(
                f"{table.name}: its rows are recordings, and {field.name!r} transcribes parts of them, which are not cut here.",
                remedy="Write one file for each part: lhotse or the scripts of the dataset cut recordings.",
            )


def _named_only(
    inner: Adapter, table: SourceFile, column: str, found: tuple[SourceFile, ...]
) -> tuple[SourceFile, ...]:
    """Returns the media that some row of the table names, in order of name. Reads the whole table.

    Raises SourceFormatError if values with different paths name the same file.
    """
    names = MediaNames(found, table.name)
    used: dict[str, str] = {}
    for value in _values_of(inner, table, column):
        file = names.find(value)
        if file is None:
            continue
        other = used.setdefault(file.path, str(value))
        if path_of(other) != path_of(str(value)):
            raise SourceFormatError(
                f"{table.name}: {column!r} names {one_line(other, 80)} and {one_line(str(value), 80)}, "
                f"but only {file.name} exists.",
                remedy="Add the folder of the other file too, or leave the table out with --exclude.",
            )
    return tuple(f for f in found if f.path in used)


def _values_of(inner: Adapter, table: SourceFile, column: str) -> Iterator[Any]:
    """Yields the values of a column. Ends where the table is damaged; the ingestion reads it again and reports the damage."""
    with suppress(CholineDataError):
        for shard in inner.shards([table]):
            for chunk in inner.read(shard):
                if column in chunk.batch.schema.names:
                    for value in chunk.batch[column].to_pylist():
                        yield from _items(value)


def _without_lesser(claims: list[FormatClaim]) -> tuple[list[FormatClaim], list[tuple[str, str]]]:
    """Leaves out tables that name the same media as another table which has all their columns and more.

    `GT-final_test.test.csv` of GTSRB is `GT-final_test.csv` without the classes.
    """
    looks = []
    for claim in claims:
        adapter, table = claim.adapter, claim.files[0]
        batch = _first_rows(adapter.inner, table) if isinstance(adapter, MediaTable) else None
        looks.append(
            (claim, set(batch.schema.names) if batch is not None else set(), {f.path for f in claim.files[1:]})
        )
    kept: list[FormatClaim] = []
    out: list[tuple[str, str]] = []
    for claim, columns, its in looks:
        wider = (other for other, more, same in looks if columns < more and its and its <= same)
        if (found := next(wider, None)) is None:
            kept.append(claim)
        else:
            out.append((claim.files[0].name, f"{found.files[0].name} names the same media, with more columns"))
    return kept, out


def _without_unchecked(
    claims: list[FormatClaim], tables: Sequence[SourceFile]
) -> tuple[list[FormatClaim], list[tuple[str, str]]]:
    """Removes the tables of Common Voice that are not splits: lists that repeat the rows of train, dev and test, or
    hold clips that nobody has checked.

    Also removes the tables of reports, sentences and durations.
    """
    by_stem = {parts(claim.files[0].name)[-1].partition(".")[0]: claim for claim in claims}
    if not {"train", "validated"} <= by_stem.keys():
        return claims, []
    folder = parts(by_stem["train"].files[0].name)[:-1]
    kept = [c for c in claims if splits_in(_stem(c.files[0])) or parts(c.files[0].name)[:-1] != folder]
    names = {c.files[0].name for c in kept}
    unchecked = [f.name for f in tables if parts(f.name)[:-1] == folder and f.name not in names]
    used = {f.name for claim in kept for f in claim.files}
    unused = {f.name for claim in claims for f in claim.files[1:]} - used
    out = [(name, "train, dev and test hold the checked clips of Common Voice") for name in unchecked]
    return kept, [*out, *((name, "no clip of train, dev or test") for name in sorted(unused))]


def _stem(file: SourceFile) -> str:
    return parts(file.name)[-1].partition(".")[0]
