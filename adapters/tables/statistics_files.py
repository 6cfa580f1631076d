"""Reads data sets of Stata and SAS (dta, sas7bdat, xpt) with pandas. Coded values become their labels, as text.

Dates and times become timestamps. A missing value of any kind is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import MissingDependencyError, SourceDamagedError, one_line

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class StatisticsFile:
    """Reads data sets in pieces of CHUNK_ROWS rows."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(_pieces(shard), shard, start)


ADAPTER = StatisticsFile


def _pieces(shard: Shard) -> Iterator[pa.RecordBatch]:
    with local_file(shard.path, shard.name) as path:
        try:
            with _reader(path, shard.name) as reader:
                for frame in reader:
                    if len(frame):
                        yield pa.RecordBatch.from_pandas(frame, preserve_index=False)
        except (ValueError, KeyError, IndexError, OSError, EOFError, OverflowError, pa.ArrowException) as error:
            raise SourceDamagedError(
                f"{shard.name}: {one_line(error, 160)}.", remedy="Fetch it again, or export it as CSV."
            ) from error


def _reader(path: str, name: str) -> Any:
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingDependencyError("statistics", "Reading data sets of Stata and SAS") from error
    if io.extension(name) == "dta" or io.raw_head(path, 11) == b"<stata_dta>":
        return pd.read_stata(path, chunksize=CHUNK_ROWS, convert_categoricals=True)
    kind = "xport" if io.raw_head(path, 13) == b"HEADER RECORD" else "sas7bdat"
    return pd.read_sas(path, format=kind, chunksize=CHUNK_ROWS, encoding="infer" if kind == "sas7bdat" else "utf-8")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the data sets of Stata and SAS."""
    return claim_tables(source, StatisticsFile(), "a data set of Stata or SAS")
