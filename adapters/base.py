"""What every adapter shares: shards, chunks, rejects, and the contract.

An adapter is a frozen, picklable value. It reads one shard of a source, from a start row on, and yields the source's own
columns. The mapping (`adapters.mapping`) turns these columns into samples. The constructor opens no file, and an adapter
keeps no state between calls. So the same shard always gives the same rows in the same order.
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
    """A file of a source. `path` is a local path or an fsspec URL; `name` is the file's path within the source.

    `split` and `config` are set before the adapters are asked (`adapters.reading.splits`). A shard without a split gets the
    split of its file.
    """

    path: str
    name: str
    size: int = -1
    checksum: str = ""
    split: str = ""
    config: str = ""


@dataclass(frozen=True)
class Shard:
    """The unit that one worker reads in one pass: a file, a member of an archive, or a range of a big file."""

    path: str
    name: str
    member: str = ""
    start: int = 0
    # The end of the range; -1 means the end of the file. The unit is bytes for line formats, row groups for Parquet,
    # and the adapter's own unit elsewhere.
    end: int = -1
    files: tuple[SourceFile, ...] = ()  # for adapters whose samples are files (folders of images, sidecars)
    size: int = -1
    split: str = ""
    config: str = ""
    encoding: str = ""  # the encoding of a text file, if it is decided before reading; "" if the adapter decides it

    @property
    def origin(self) -> str:
        """The value of `origin.file`. It is the same on every machine."""
        return f"{self.name}!{self.member}" if self.member else self.name


@dataclass(frozen=True)
class Reject:
    """A row that was read but could not become a sample. A row without data, such as an empty line or a total, is not a fault."""

    file: str
    row: int
    reason: str
    fault: bool = True


@dataclass(frozen=True)
class SourceChunk:
    """Rows in the source's own columns, with their row numbers in the shard.

    `rows[i]` is the number of the source row of `batch[i]`. Rejected rows are not in `batch`; they are in `rejects`. Row
    numbers start at 0 and count every row of the shard, including the rejected rows. If the shard is a range of a file, the
    numbers start at the range's first row. `origin.row` adds the number of earlier rows only if the adapter knows it (Parquet
    does).

    If the values of a column have no common type, the column is text with the field metadata `{b"json": b"1"}`, and each
    value is JSON.
    """

    batch: pa.RecordBatch
    rows: np.ndarray
    rejects: tuple[Reject, ...] = ()
    files: pa.Array | None = None  # origin.file of each row, if it differs from the shard's


@runtime_checkable
class Adapter(Protocol):
    """Reads one source format. Implementations are frozen dataclasses: they hold options and no state."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns the shards of these files, in source order.

        The shards are the same on every machine and for any number of workers.
        """
        ...

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the shard's rows from row `start` on, in chunks of at most BATCH_BYTES and BATCH_ROWS.

        A row larger than BATCH_BYTES is a chunk of its own. If the shard is truncated or corrupt, yields the complete rows
        before the damage and then raises SourceDamagedError.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A resolved source: its files, and the facts known about it apart from their content.

    `left_out` holds (name, reason) of files that are never data, or that the user leaves out. `include` and `exclude` are the
    user's patterns; they also apply to the members of archives.
    """

    location: str
    files: tuple[SourceFile, ...]
    revision: str = ""
    license: str = ""
    name: str = ""
    folder: bool = False
    options: dict[str, str] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    join: tuple[str, ...] = ()  # the option `--join`, FILE:COLUMN: the column of a table that names media files


USED, JOINED, DESCRIBED, LEFT_OUT = ROLES = ("used", "joined", "described", "left out")


@dataclass(frozen=True)
class FileRole:
    """How a file of a source is used. The rows of a *used* file are samples. A *joined* file adds values to the samples of other
    files. A *described* file describes the dataset. The reason says why a file is not used.
    """

    name: str
    role: str
    reason: str = ""


@dataclass(frozen=True)
class FormatClaim:
    """States that an adapter can read these files of a source."""

    adapter: Adapter
    files: tuple[SourceFile, ...]
    score: float  # how certain the format is, from 0 to 1; a layout of a whole folder that is certain has 1.0
    evidence: str
    kind: str = ""  # the kind of sample, if the format determines it (image folder, CoNLL-U …)
    split: str = ""
    config: str = ""
    license: str = ""
    passed_over: tuple[tuple[str, str], ...] = ()  # (file, reason) of the files that are left out
    # (file, reason) of the files that describe the dataset and contain no samples
    described: tuple[tuple[str, str], ...] = ()
    # (file, reason) of the files that add values to the samples of other files
    joined: tuple[tuple[str, str], ...] = ()
    members: tuple[FileRole, ...] = ()  # the members of the archives among `files`


@contextmanager
def foreign(name: str, adapter: str = "") -> Iterator[None]:
    """Wraps code that parses foreign bytes. If a library raises an error, raises SourceDamagedError, which names the file.

    A MemoryError becomes SourceTooLargeError. If `adapter` names an adapter of another package, the message names it.
    """
    try:
        yield
    except CholineDataError:
        raise
    except MemoryError as error:
        raise SourceTooLargeError(
            f"{name}: reading it takes more memory than there is.", remedy="Split it, or give the process more memory."
        ) from error
    except Exception as error:
        by = f" by {adapter}" if adapter else ""
        raise SourceDamagedError(
            f"{name}: can't be read{by} ({type(error).__name__}: {one_line(error, 200)}).",
            remedy=f"Fetch the file again, or report it to the author of {adapter}."
            if adapter
            else "Fetch the file again.",
        ) from error


def chunk_of(batch: pa.RecordBatch, first_row: int, rejects: tuple[Reject, ...] = ()) -> SourceChunk:
    """Returns a chunk whose row numbers are consecutive and start at `first_row`."""
    return SourceChunk(batch, np.arange(first_row, first_row + batch.num_rows, dtype=np.int64), rejects)


def from_row(start: int, chunks: Iterator[SourceChunk]) -> Iterator[SourceChunk]:
    """Yields `chunks` without the rows before `start`. Formats that cannot seek use this function to resume."""
    for chunk in chunks:
        if len(chunk.rows) and chunk.rows[0] >= start and not chunk.rejects:
            yield chunk
            continue
        first = int(np.searchsorted(chunk.rows, start))
        rejects = tuple(r for r in chunk.rejects if r.row >= start)
        if first < len(chunk.rows) or rejects:
            files = chunk.files.slice(first) if chunk.files is not None else None
            yield SourceChunk(chunk.batch.slice(first), chunk.rows[first:], rejects, files)
