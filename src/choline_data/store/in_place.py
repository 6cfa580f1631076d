"""In-place revisions (`add --in-place`): the samples stay in the original files, and the home has no copy of them.

The manifest lists the files, their size and time when they were added, and the number of samples in each of their
groups (in Parquet: row groups). A group is decoded when it is requested, up to the last requested row. Rows that were
decoded recently are kept, bounded in bytes. If a file has changed since it was added, reading it is an error; it never
gives other samples.
"""

from __future__ import annotations

import shlex
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from choline_data.errors import DamagedStoreError, OutOfRangeError, SourceDamagedError
from choline_data.places.home import Home
from choline_data.places.mapped import MappedFile
from choline_data.store.faults import IN_PLACE_REMEDY
from choline_data.store.manifest import damaged_manifest
from choline_data.store.manifest_in_place import FileInPlace, ManifestInPlace
from choline_data.store.revision import Revision

CACHE_BYTES = 64 << 20
_SOURCES = 64
_DECODING = 8  # limit for the number of groups that are being decoded, because each has an open file

# Readers are registered as entry points, so a manifest contains no import path and the store imports no adapter.
READERS = "choline_data.in_place_readers"


class GroupReader(Protocol):
    """Interface of the code that reads the groups of a file as samples. A revision has one reader; for each file, only
    one thread uses it at a time.
    """

    def check(self, file: FileInPlace) -> None:
        """Raises DamagedStoreError if the file is missing or has changed since registration."""
        ...

    def samples(self, file: FileInPlace, group: int, *, extra: bool) -> Iterator[pa.RecordBatch]:
        """Yields the group's samples with the stored columns, in batches of bounded size. `extra` says whether to read `extra`."""
        ...


class _Group:
    """A group that is read step by step: its most recent batches, and the iterator that decodes the next ones."""

    def __init__(self, batches: Iterator[pa.RecordBatch], rows: int, where: str) -> None:
        self._batches: Iterator[pa.RecordBatch] | None = batches
        self._rows = rows
        self._where = where
        self._held: list[tuple[int, pa.RecordBatch]] = []
        self._next = 0  # the number of the first row of the group that is not decoded yet
        self.nbytes = 0

    @property
    def first(self) -> int:
        """The first row that is still in memory."""
        return self._held[0][0] if self._held else self._next

    @property
    def decoding(self) -> bool:
        """Whether the group is not fully decoded yet, so that its file is open."""
        return self._batches is not None

    def read(self, start: int, stop: int, limit: int) -> list[pa.RecordBatch]:
        """Returns rows start … stop-1 of the group; `start` must not lie before `first`."""
        while self._next < stop:
            batch = next(self._batches, None) if self._batches is not None else None
            if batch is None:
                raise self._count_error()
            self._held.append((self._next, batch))
            self._next += batch.num_rows
            self.nbytes += batch.nbytes
            while self.nbytes > limit and len(self._held) > 1 and self._held[1][0] <= start:
                self.nbytes -= self._held.pop(0)[1].nbytes
        if self._next >= self._rows and self._batches is not None:
            if next(self._batches, None) is not None or self._next > self._rows:
                raise self._count_error()
            self._batches = None
        rows = []
        for at, batch in self._held:
            low, high = max(start, at), min(stop, at + batch.num_rows)
            if low < high:
                rows.append(_slice(batch, low - at, high - low))
        return rows

    def close(self) -> None:
        """Closes the file that is being decoded."""
        if self._batches is not None:
            cast(Any, self._batches).close()
            self._batches = None

    def _count_error(self) -> DamagedStoreError:
        return DamagedStoreError(
            f"{self._where} does not contain the {self._rows} samples that were registered.",
            remedy=IN_PLACE_REMEDY,
        )


def _slice(batch: pa.RecordBatch, start: int, rows: int) -> pa.RecordBatch:
    """Returns rows of a decoded batch. A small slice is copied, because a view would keep the whole batch in memory."""
    if rows * 2 < batch.num_rows:
        return batch.take(pa.array(np.arange(start, start + rows)))
    return batch.slice(start, rows)


class InPlaceRevision(Revision):
    """Reads a revision whose samples are in files outside the home. Has the interface of `Revision`."""

    def __init__(
        self, home: Home, revision: str, table: pa.Table | None = None, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        super().__init__(home, revision, table)
        self._limit = cache_bytes
        self._groups: OrderedDict[tuple[int, int, bool], _Group] = OrderedDict()
        self._sources: OrderedDict[int, FileInPlace] = OrderedDict()
        self._using: dict[int, threading.Lock] = {}
        head = self._head
        try:
            self._reader = cast(GroupReader, _reader_named(head["reader"])(self.columns, head["parts"]))
        except KeyError as error:
            raise damaged_manifest(revision) from error

    @property
    def in_place(self) -> bool:
        """Returns True: the samples are in files outside the home."""
        return True

    def files(self) -> list[Any]:
        """Returns an empty list: there are no store files. `sources` lists the original files."""
        return []

    def sources(self) -> list[FileInPlace]:
        """Returns the original files, with their state at registration."""
        return [self._source(number) for number in range(len(self.file_rows))]

    def _source(self, number: int) -> FileInPlace:
        with self._lock:
            source = self._sources.get(number)
        if source is None:
            row = self._table.slice(number, 1).to_pylist()[0]
            source = FileInPlace(**{**row, "groups": tuple(row["groups"])})
            with self._lock:
                self._sources[number] = source
                while len(self._sources) > _SOURCES:
                    self._sources.popitem(last=False)
        return source

    def manifest(self) -> ManifestInPlace:
        """Returns the revision's manifest as a `ManifestInPlace`."""
        head = self._head
        return ManifestInPlace(
            files=tuple(self.sources()),
            columns=self.columns,
            block_rows=self.block_rows,
            constants=self.constants,
            reader=head["reader"],
            parts=tuple(head["parts"]),
            about=self.about,
        )

    def maps(self) -> list[pa.Buffer]:
        """Returns an empty list: no file is mapped."""
        return []

    def check(self, file: FileInPlace) -> None:
        """Raises DamagedStoreError if the file is missing or has changed since registration."""
        with self._with_source():
            self._reader.check(file)

    @contextmanager
    def _with_source(self) -> Iterator[None]:
        """Context manager: adds the location of the revision's source to the remedy of every DamagedStoreError."""
        try:
            yield
        except DamagedStoreError as error:
            source = shlex.quote(str(self.about.get("source") or "SOURCE"))
            error.remedy = error.remedy.replace("add SOURCE --in-place", f"add {source} --in-place")
            error.args = (f"{error.message} {error.remedy}",)
            raise

    def first_row(self, number: int) -> int:
        """Returns the first row of the file with this number."""
        return self._starts[number]

    def read(self, start: int, stop: int, columns: Sequence[str] | None = None) -> list[pa.RecordBatch]:
        """Returns rows start … stop-1 as slices of decoded batches."""
        if not 0 <= start <= stop <= self.rows:
            raise OutOfRangeError(
                f"The revision has {self.rows} rows, not {start} to {stop}.", remedy="Ask for rows that it has."
            )
        extra = "extra" in self.columns and (columns is None or "extra" in columns)
        out: list[pa.RecordBatch] = []
        number = bisect_right(self._starts, start) - 1
        while start < stop:
            base, end = self._starts[number], self._starts[number + 1]
            if start < end:
                last = min(stop, end)
                with self._lock:
                    using = self._using.setdefault(number, threading.Lock())
                with using, self._with_source():
                    out += self._of_file(number, start - base, last - base, extra)
                start = last
            number += 1
        if columns is None:
            return out
        return [batch.select([c for c in batch.schema.names if c in columns]) for batch in out]

    def views(
        self, start: int, stop: int, columns: Sequence[str] | None, touched: list[MappedFile]
    ) -> list[pa.RecordBatch]:
        """Returns the same as `read`, because no file is mapped."""
        return self.read(start, stop, columns)

    def _of_file(self, number: int, start: int, stop: int, extra: bool) -> list[pa.RecordBatch]:
        file = self._source(number)
        ends = np.cumsum(np.asarray(file.groups, np.int64))
        try:
            self._reader.check(file)
            out: list[pa.RecordBatch] = []
            for group in range(int(np.searchsorted(ends, start, side="right")), len(ends)):
                base = int(ends[group]) - file.groups[group]
                if base >= stop:
                    break
                if file.groups[group]:
                    low, high = max(start - base, 0), min(stop - base, file.groups[group])
                    out += self._of_group(number, file, group, low, high, extra)
            self._reader.check(file)  # check again after the read, because the file may have changed during the read
            return out
        except SourceDamagedError as error:
            raise DamagedStoreError(
                f"{file.location} can't be read any more: {error.message}",
                remedy=IN_PLACE_REMEDY,
            ) from error

    def _of_group(
        self, number: int, file: FileInPlace, group: int, start: int, stop: int, extra: bool
    ) -> list[pa.RecordBatch]:
        key = (number, group, extra)
        with self._lock:
            group_read = self._groups.pop(key, None)
        if group_read is None or group_read.first > start:
            if group_read is not None:
                group_read.close()
            where = f"Row group {group} of {file.location}"
            group_read = _Group(self._reader.samples(file, group, extra=extra), file.groups[group], where)
        try:
            out = group_read.read(start, stop, self._limit)
        except BaseException:
            group_read.close()
            raise
        with self._lock:
            self._groups[key] = group_read
            dropped = self._to_drop()
        for old in dropped:
            old.close()
        return out

    def _to_drop(self) -> list[_Group]:
        """Removes and returns the least recently used groups above the limits; never the most recently used group."""
        dropped: list[_Group] = []
        size = sum(group.nbytes for group in self._groups.values())
        decoding = sum(group.decoding for group in self._groups.values())
        for key, group in list(self._groups.items())[:-1]:
            if size > self._limit or (group.decoding and decoding > _DECODING):
                size -= group.nbytes
                decoding -= group.decoding
                dropped.append(self._groups.pop(key))
        return dropped


def check_in_place(revision: InPlaceRevision) -> Iterator[tuple[str, int, DamagedStoreError | None]]:
    """Reads every sample of every file. Yields for each file its location, its number of groups, and its first error or
    None.
    """
    for number, file in enumerate(revision.sources()):
        problem = None
        try:
            at = revision.first_row(number)
            for low in range(at, at + file.rows, 4096):
                for batch in revision.read(low, min(low + 4096, at + file.rows)):
                    batch.validate(full=True)
            if not file.rows:
                revision.check(file)
        except DamagedStoreError as error:
            problem = error
        except pa.ArrowInvalid as error:
            problem = DamagedStoreError(f"{file.location}: {error}", remedy=IN_PLACE_REMEDY)
        yield file.location, len(file.groups), problem


def _reader_named(name: str) -> Callable[[Sequence[str], Sequence[Any]], object]:
    """Returns the factory of readers with this name. Raises KeyError if no installed package registers one."""
    points = sorted(
        entry_points(group=READERS, name=name), key=lambda entry: not entry.value.startswith("choline_data.")
    )
    if not points:
        raise KeyError(name)
    return cast(Callable[[Sequence[str], Sequence[Any]], object], points[0].load())
