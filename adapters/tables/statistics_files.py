"""Reads data sets of SPSS, Stata and SAS (sav, zsav, por, dta, sas7bdat, xpt) with pyreadstat. Coded values become their labels.

Dates and times become timestamps. A missing value of any kind is null. If only some values of a column have labels, the other
values stay numbers. Formats of SAS come from a catalog (sas7bcat) beside the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.records import json_column, json_field
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import MissingDependencyError, SourceDamagedError, one_line

PIECE_BYTES = 64 << 20
_MOST_ROWS = 100_000
_WHOLE = float(1 << 53)
_INTEGER_FORMAT = re.compile(r"[FN]\d+(\.0)?$")  # of SPSS
_MAGIC = (
    (b"$FL", "sav"),
    (b"<stata_dta>", "dta"),
    (b"HEADER RECORD", "xport"),
    (b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60", "sas7bdat"),
)
_EXTENSIONS = {"sav": "sav", "zsav": "sav", "por": "por", "dta": "dta", "xpt": "xport", "xport": "xport"}
Labels = Mapping[Any, str]


@dataclass(frozen=True)
class StatisticsFile:
    """Reads data sets in pieces of at most PIECE_BYTES."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each data set. Its catalog of SAS formats, if the source has exactly one, is in `files`."""
        catalogs = tuple(f for f in files if _is_catalog(f))
        beside = catalogs if len(catalogs) == 1 else ()
        return [Shard(f.path, f.name, files=beside, size=f.size) for f in in_order(files) if not _is_catalog(f)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(_pieces(shard), shard, start)


ADAPTER = StatisticsFile


def _is_catalog(file: SourceFile) -> bool:
    return io.extension(file.name) == "sas7bcat"


def _pieces(shard: Shard) -> Iterator[pa.RecordBatch]:
    try:
        import pandas  # noqa: F401
        import pyreadstat
    except ModuleNotFoundError as error:
        raise MissingDependencyError("statistics", "Reading data sets of SPSS, Stata and SAS") from error
    with ExitStack() as opened:
        path = opened.enter_context(local_file(shard.path, shard.name))
        kind = _kind(shard.name, io.head(shard.path, 32))
        options: dict[str, Any] = {"dates_as_pandas_datetime": True}
        if kind == "sas7bdat" and shard.files:
            options["catalog_file"] = opened.enter_context(local_file(shard.files[0].path, shard.files[0].name))
        read = getattr(pyreadstat, f"read_{kind}")
        # pyreadstat before 1.3 has only the first of its two errors in its own namespace.
        own = [getattr(pyreadstat, name, ValueError) for name in ("ReadstatError", "PyreadstatError")]
        failures = (*own, ValueError, OverflowError, OSError)
        try:
            yield from _read(read, path, options)
        except (*failures, pa.ArrowException) as error:
            raise SourceDamagedError(
                f"{shard.name}: {one_line(error, 160)}.", remedy="Fetch it again, or export it as CSV."
            ) from error


def _kind(name: str, head: bytes) -> str:
    kind_of_file = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
    return kind_of_file or _EXTENSIONS.get(io.extension(name), "dta")


def _read(read: Any, path: str, options: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    _, about = read(path, metadataonly=True, **options)
    width = sum(max(size, 8) for size in about.variable_storage_width.values())
    rows = max(1, min(_MOST_ROWS, PIECE_BYTES // max(width, 1)))
    partly: set[str] | None = None
    offset = 0
    while True:
        frame, _ = read(path, row_offset=offset, row_limit=rows, **options)
        labels = {
            name: value_labels for name, value_labels in about.variable_value_labels.items() if name in frame.columns
        }
        if partly is None:
            partly = {
                name for name, value_labels in labels.items() if set(frame[name].dropna().unique()) - set(value_labels)
            }
        if len(frame):
            columns = [_column(name, frame[name], about, labels.get(name), name in partly) for name in frame.columns]
            yield pa.RecordBatch.from_arrays([array for _, array in columns], schema=pa.schema([f for f, _ in columns]))
        if len(frame) < rows:
            return
        offset += rows


def _column(name: str, values: Any, about: Any, labels: Labels | None, is_partly: bool) -> tuple[pa.Field, pa.Array]:
    """Returns a column. `is_partly` says that some of its values have no labels, so it holds labels and numbers."""
    numbers = _numbers(name, values, about)
    if labels:
        plain = numbers.to_pylist() if numbers is not None else [None if v != v else v for v in values.tolist()]
        labelled = [labels.get(value, value) if value is not None else None for value in plain]
        if is_partly:
            return json_field(name), json_column(labelled)
        return pa.field(name, pa.string()), pa.array([None if v is None else str(v) for v in labelled], pa.string())
    array = numbers if numbers is not None else pa.Array.from_pandas(values)
    return pa.field(name, array.type), array


def _numbers(name: str, values: Any, about: Any) -> pa.Array | None:
    """Returns the values as integers if the format of the column says so and all of them are whole. None otherwise."""
    if values.dtype.kind not in "fiu":
        return None
    is_integer = (about.readstat_variable_types.get(name) or "").startswith("int")
    if not is_integer and not _INTEGER_FORMAT.match(about.original_variable_types.get(name) or ""):
        return None
    missing = np.isnan(values.to_numpy(float))
    known = values.to_numpy(float)[~missing]
    if len(known) and (np.abs(known).max() >= _WHOLE or (known != np.floor(known)).any()):
        return None
    whole = np.where(missing, 0, values.to_numpy(float)).astype(np.int64)
    return pa.array(whole, mask=missing)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the data sets of SPSS, Stata and SAS."""
    if not any(not _is_catalog(f) for f in source.files):
        return []
    return claim_tables(source, StatisticsFile(), "a data set of SPSS, Stata or SAS")
