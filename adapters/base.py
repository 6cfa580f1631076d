"""What every adapter shares: shards, chunks, rejects, and the contract.

An adapter is a frozen, picklable value. It reads one shard of a source from one row on and yields the source's own
columns; the mapping (`adapters.mapping`) makes samples of them. It opens nothing in its constructor and keeps nothing
between calls, so the same shard gives the same rows in the same order, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from choline_data.errors import CholineDataError, SourceDamagedError, SourceTooLargeError, one_line

BATCH_BYTES = 8 << 20
BATCH_ROWS = 4096
MAX_ROW_BYTES = 16 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file of a source. `path` opens it (local path or fsspec URL); `name` is where it lies within the source."""

    path: str
    name: str
    size: int = -1
    checksum: str = ""


@dataclass(frozen=True)
class Shard:
    """A file, a member of an archive, or a range of a big one: what one worker reads in one go."""

    path: str
    name: str
    member: str = ""
    start: int = 0
    end: int = -1  # -1: to the end. Bytes for line formats, row groups for Parquet, the adapter's own unit elsewhere.
    files: tuple[SourceFile, ...] = ()  # for adapters whose samples are files (folders of images, sidecars)
    size: int = -1
    split: str = ""
    config: str = ""

    @property
    def origin(self) -> str:
        """What goes into `origin.file`: the same on every machine."""
        return f"{self.name}!{self.member}" if self.member else self.name


@dataclass(frozen=True)
class Reject:
    """A row that was read but could not become a sample."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class SourceChunk:
    """Rows in the source's own columns, with their row numbers in the shard.

    `rows[i]` is the number of the source row that `batch[i]` came from; rows that were rejected have no place in
    `batch` and stand in `rejects`. Row numbers count every row of the shard, rejected ones too, from 0. Where a shard
    is a range of a file, they count from the start of the range (`origin.row` adds what lies before only where the
    adapter knows it; Parquet does).

    A column whose values have no common type is text with the field metadata `{b"json": b"1"}`: each value is JSON.
    """

    batch: pa.RecordBatch
    rows: np.ndarray
    rejects: tuple[Reject, ...] = ()
    files: pa.Array | None = None  # origin.file of each row, where it is not the shard's


@runtime_checkable
class Adapter(Protocol):
    """Reads one source format. Implementations are frozen dataclasses: options in, no state."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """The shards of these files, in source order; the same on every machine and for any number of workers."""
        ...

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """The shard's rows from row `start` on, in chunks of at most BATCH_BYTES and BATCH_ROWS (a bigger row alone).

        Raises SourceDamagedError, after the whole rows before the damage, where the shard is cut or corrupt.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A resolved source: its files, and what is known about it beside their content."""

    location: str
    files: tuple[SourceFile, ...]
    revision: str = ""
    license: str = ""
    name: str = ""
    folder: bool = False
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FormatClaim:
    """An adapter's word that it reads these files of a source."""

    adapter: Adapter
    files: tuple[SourceFile, ...]
    score: float  # 0..1; folder-level layouts that are sure say 1.0
    evidence: str
    kind: str = ""  # the kind, where the format itself says it (image folder, CoNLL-U …)
    split: str = ""
    config: str = ""
    license: str = ""
    passed_over: tuple[tuple[str, str], ...] = ()  # (file, why): sidecars and duplicates that hold no samples


@contextmanager
def foreign(name: str) -> Iterator[None]:
    """Within it foreign bytes are taken apart: anything but our own errors becomes SourceDamagedError with this name."""
    try:
        yield
    except CholineDataError:
        raise
    except MemoryError as error:
        raise SourceTooLargeError(
            f"{name}: reading it takes more memory than there is.", remedy="Split it, or give the process more memory."
        ) from error
    except Exception as error:
        raise SourceDamagedError(
            f"{name}: can't be read ({type(error).__name__}: {one_line(error, 200)}).", remedy="Fetch the file again."
        ) from error


def chunk_of(batch: pa.RecordBatch, first_row: int, rejects: tuple[Reject, ...] = ()) -> SourceChunk:
    """A chunk whose rows are consecutive from `first_row`."""
    return SourceChunk(batch, np.arange(first_row, first_row + batch.num_rows, dtype=np.int64), rejects)


def from_row(start: int, chunks: Iterator[SourceChunk]) -> Iterator[SourceChunk]:
    """`chunks` without the rows before `start`: resume for formats that can't seek."""
    for chunk in chunks:
        if len(chunk.rows) and chunk.rows[0] >= start and not chunk.rejects:
            yield chunk
            continue
        first = int(np.searchsorted(chunk.rows, start))
        rejects = tuple(r for r in chunk.rejects if r.row >= start)
        if first < len(chunk.rows) or rejects:
            files = chunk.files.slice(first) if chunk.files is not None else None
            yield SourceChunk(chunk.batch.slice(first), chunk.rows[first:], rejects, files)
