"""An index from sample ids to the rows of a revision. It is made at its first use, by reading all ids once in bounded
memory.

The object `ids/REVISION.index` has a head of 32 bytes, a directory with 16 bytes per bucket (the end of its records,
and their xxh3), and 24 bytes per row: id and row number, sorted by id. Ids are digests, so their first bits distribute
them evenly over buckets of about 1,000 records. A look-up reads the directory once, and then 24 KiB for each id.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from choline_data.errors import DamagedStoreError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.process.work import pause
from choline_data.store import Revision, derived
from choline_data.store.leases import writing

RowNumbers = npt.NDArray[np.int64]

_HEAD = struct.Struct("<8sQQQ")  # magic, rows, buckets, xxh3 of the directory
_MAGIC, _OLD_MAGIC = b"CHLIDX02", b"CHLIDX01"  # in the old format, the digest does not cover the revision
_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])  # the two halves of an id as numbers
_BUCKET = np.dtype([("end", "<u8"), ("xxh3", "<u8")])
_IN_BUCKET = 1024
_AT_ONCE = 1 << 22  # rows that are sorted in memory at a time: 96 MiB
_ROWS_READ = 1 << 18


def index_name(revision: str) -> str:
    """Returns the name of the object that holds the index of a revision's ids."""
    return f"ids/{revision}.index"


def rows_of(home: Home, revision: Revision, ids: Sequence[bytes]) -> RowNumbers:
    """Returns the rows that have one of these ids, ascending. Makes the index if there is none. If it can't be stored,
    reads all ids.
    """
    name = index_name(revision.revision)
    if not home.exists(name) and not derived.kept(home, size_of(revision.rows), lambda: make(home, revision)):
        return scanned(revision, ids)
    derived.of(home).mark(home, name)
    try:
        return IdIndex(home, revision).rows_of(ids)
    except (FileNotFoundError, SourceNotFoundError):  # the index was evicted after it was made
        return scanned(revision, ids)


def size_of(rows: int) -> int:
    """Returns the size in bytes of an index for this number of rows."""
    return _HEAD.size + (_BUCKET.itemsize << _bits(rows)) + rows * _RECORD.itemsize


def scanned(revision: Revision, ids: Sequence[bytes]) -> RowNumbers:
    """Returns the rows that have one of these ids, ascending. Reads the id of every row."""
    wanted = _of_ids(ids)
    parts = [part["row"][_matches(part, wanted)] for part in _records(revision)]
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


class IdIndex:
    """Reads an existing index. Raises DamagedStoreError if it is damaged."""

    def __init__(self, home: Home, revision: Revision) -> None:
        self._home = home
        self._name = index_name(revision.revision)
        head = home.read_range(self._name, 0, _HEAD.size)
        magic, rows, buckets, digest = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0, 0)
        size = buckets * _BUCKET.itemsize
        if magic not in (_MAGIC, _OLD_MAGIC) or rows != revision.rows or buckets != 1 << _bits(rows):
            raise self._damaged()
        raw = home.read_range(self._name, _HEAD.size, _HEAD.size + size)
        if len(raw) != size or _digest(self._name if magic == _MAGIC else "", raw) != digest:
            raise self._damaged()
        self._directory = np.frombuffer(raw, _BUCKET)
        self._shift = np.uint64(64 - _bits(rows))
        self._records_at = _HEAD.size + size

    def _damaged(self) -> DamagedStoreError:
        return DamagedStoreError(
            f"The index {self._name} is damaged.", remedy="Run `choline-data repair`, which makes it again."
        )

    def rows_of(self, ids: Sequence[bytes]) -> RowNumbers:
        """Returns the rows that have one of these ids, ascending."""
        wanted = _of_ids(ids)
        parts = [np.empty(0, np.int64)]
        for bucket in np.unique(wanted["high"] >> self._shift).tolist():
            part = self._bucket(bucket)
            parts.append(part["row"][_matches(part, wanted)].astype(np.int64))
        return np.sort(np.concatenate(parts))

    def _bucket(self, bucket: int) -> npt.NDArray[Any]:
        first = int(self._directory["end"][bucket - 1]) if bucket else 0
        end = int(self._directory["end"][bucket])
        at, stop = (self._records_at + n * _RECORD.itemsize for n in (first, end))
        raw = self._home.read_range(self._name, at, stop) if end > first else b""
        if xxhash.xxh3_64_intdigest(raw) != int(self._directory["xxh3"][bucket]):
            raise self._damaged()
        return np.frombuffer(raw, _RECORD)

    def check_all(self) -> None:
        """Reads the whole index. Raises DamagedStoreError if any record is damaged."""
        if len(self._directory) and int(
            self._directory["end"][-1]
        ) * _RECORD.itemsize + self._records_at != self._home.size(self._name):
            raise self._damaged()
        for bucket in range(len(self._directory)):
            self._bucket(bucket)


def _digest(name: str, directory: bytes) -> int:
    """Returns the checksum of a directory. It covers the index's name, so an index of another revision is detected."""
    digest = xxhash.xxh3_64(name.encode())
    digest.update(directory)
    return digest.intdigest()


def make(home: Home, revision: Revision, *, at_once: int = _AT_ONCE) -> None:
    """Writes the revision's index with one scan. About `at_once` rows are in memory at a time.

    A revision with more rows also needs 24 bytes of temporary disk space per row.
    """
    with writing(home, f"index {revision.revision[:12]}", patience=derived.of(home).patience) as leased:
        staged = leased.new_staging_path()
        try:
            with leased.writing(staged):
                _write(staged, revision, at_once)
            leased.adopt(staged, index_name(revision.revision))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise


def _write(staged: str, revision: Revision, at_once: int) -> None:
    bits = _bits(revision.rows)
    cut = min(bits, (2 * revision.rows // at_once).bit_length()) if revision.rows > at_once else 0
    directory = np.zeros(1 << bits, _BUCKET)
    with open(staged, "wb") as file:
        file.seek(_HEAD.size + directory.nbytes)
        written = 0
        for part in _parts(revision, cut, os.path.dirname(staged)):
            order = np.lexsort((part["row"], part["low"], part["high"]))
            part = part[order]
            buckets = (part["high"] >> np.uint64(64 - bits)).astype(np.int64)
            file.write(part.data)
            for bucket, records in _by_bucket(buckets, part):
                directory[bucket] = (written + len(records), xxhash.xxh3_64_intdigest(records.tobytes()))
                written += len(records)
        _fill_empty(directory)
        file.seek(0)
        digest = _digest(index_name(revision.revision), directory.tobytes())
        file.write(_HEAD.pack(_MAGIC, revision.rows, len(directory), digest) + directory.tobytes())


def _bits(rows: int) -> int:
    """Returns the number of leading bits of an id that select its bucket: at least one."""
    return max(1, (rows // _IN_BUCKET).bit_length())


def _of_ids(ids: Sequence[bytes]) -> npt.NDArray[Any]:
    """Returns the ids as sorted records without duplicates. The row number of each record is 0."""
    wanted = np.zeros(len(set(ids)), _RECORD)
    halves = np.frombuffer(b"".join(sorted(set(ids))), ">u8").reshape(-1, 2)
    wanted["high"], wanted["low"] = halves[:, 0], halves[:, 1]
    return wanted


def _matches(part: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Returns a mask of the records that have one of the wanted ids. Compares the first halves of the ids, and then all
    bytes of the few matches.
    """
    hits = np.isin(part["high"], wanted["high"])
    pairs = set(zip(wanted["high"].tolist(), wanted["low"].tolist(), strict=True))
    at = np.flatnonzero(hits)
    hits[at] = [pair in pairs for pair in zip(part["high"][at].tolist(), part["low"][at].tolist(), strict=True)]
    return hits


def _records(revision: Revision) -> Iterator[npt.NDArray[Any]]:
    """Yields the records of all rows, in row order."""
    for start in range(0, revision.rows, _ROWS_READ):
        pause()
        stop = min(start + _ROWS_READ, revision.rows)
        columns = [batch["id"] for batch in revision.read(start, stop, ["id"])]
        ids = pa.concat_arrays(columns)
        halves = np.frombuffer(ids.buffers()[1], ">u8", 2 * len(ids), ids.offset * 16).reshape(-1, 2)
        out = np.empty(len(ids), _RECORD)
        out["high"], out["low"], out["row"] = halves[:, 0], halves[:, 1], np.arange(start, stop)
        yield out


def _parts(revision: Revision, cut: int, folder: str) -> Iterator[npt.NDArray[Any]]:
    """Yields the records in 2^cut parts, divided by the first bits of their ids. Only one part is in memory at a time;
    the others are in files in `folder`.
    """
    if not cut:
        yield np.concatenate([np.empty(0, _RECORD), *_records(revision)]).astype(_RECORD)
        return
    spilled: list[IO[bytes]] = []
    try:
        spilled += [tempfile.TemporaryFile(dir=folder) for _ in range(1 << cut)]  # noqa: SIM115 - closed below
        for records in _records(revision):
            parts = (records["high"] >> np.uint64(64 - cut)).astype(np.int64)
            ordered = records[np.argsort(parts, kind="stable")]
            for part, chunk in _by_bucket(np.sort(parts), ordered):
                spilled[part].write(chunk.tobytes())
        for file in spilled:
            file.seek(0)
            yield np.frombuffer(file.read(), _RECORD)
            file.truncate(0)
    finally:
        for file in spilled:
            file.close()


def _by_bucket(buckets: npt.NDArray[np.int64], records: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yields the records of each bucket that is not empty. `buckets` has the bucket of each record, in ascending order."""
    cuts = np.flatnonzero(np.diff(buckets)) + 1
    starts = np.concatenate([[0], cuts]).tolist()
    ends = [*cuts.tolist(), len(buckets)]
    for start, end in zip(starts, ends, strict=True):
        if end > start:
            yield int(buckets[start]), records[start:end]


def _fill_empty(directory: npt.NDArray[Any]) -> None:
    """Gives each empty bucket the end of the bucket before it, and the digest of empty bytes."""
    empty = directory["end"] == 0
    directory["end"] = np.maximum.accumulate(directory["end"])
    directory["xxh3"][empty] = xxhash.xxh3_64_intdigest(b"")
