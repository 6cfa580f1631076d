"""A revision: one immutable normalised content of a dataset, named by the digest of its content."""

from __future__ import annotations

import builtins
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.columns import array_of, numbers, strings
from choline_data.errors import DamagedStoreError, OutOfRangeError
from choline_data.home import Home
from choline_data.store.blocks import BlockFile

_FILES = pa.schema(
    [
        pa.field("sha256", pa.binary(32)),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("split", pa.string()),
        pa.field("config", pa.string()),
    ]
)
_OPEN_FILES = 256


@dataclass(frozen=True)
class StoredFile:
    """A store file of a revision, and the source, split and config whose rows it holds."""

    sha256: str
    rows: int
    bytes: int
    source: str = ""
    split: str = ""
    config: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a revision is: its files in order, the columns they have, and the values that hold for every row."""

    files: tuple[StoredFile, ...]
    columns: tuple[str, ...]
    block_rows: int
    constants: dict[str, str]
    about: dict[str, Any] = field(default_factory=dict)  # how it came to be; no part of the digest

    @property
    def rows(self) -> int:
        """Samples in the revision."""
        return sum(f.rows for f in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of its store files."""
        return sum(f.bytes for f in self.files)

    @cached_property
    def revision(self) -> str:
        """The digest of the content: equal for equal samples in equal order, whatever made them."""
        head = {
            "schema": one.VERSION,
            "columns": list(self.columns),
            "block_rows": self.block_rows,
            "constants": self.constants,
        }
        digest = hashlib.sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
        for file in self.files:
            digest.update(orjson.dumps([file.sha256, file.rows, file.split, file.config]))
        return digest.hexdigest()

    def encode(self) -> builtins.bytes:
        """The manifest as an Arrow IPC file: 10^5 files in some 12 MB, read in milliseconds."""
        digests = b"".join(bytes.fromhex(f.sha256) for f in self.files)
        columns: list[pa.Array] = [
            pa.Array.from_buffers(pa.binary(32), len(self.files), [None, pa.py_buffer(digests)]),
            array_of(np.array([f.rows for f in self.files], np.int64)),
            array_of(np.array([f.bytes for f in self.files], np.int64)),
            strings([f.source for f in self.files]),
            strings([f.split for f in self.files]),
            strings([f.config for f in self.files]),
        ]
        head = {
            "columns": list(self.columns),
            "block_rows": self.block_rows,
            "constants": self.constants,
            "about": self.about,
        }
        schema = _FILES.with_metadata({"choline_data.manifest": orjson.dumps(head)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        return bytes(sink.getvalue())


def manifest_name(revision: str) -> str:
    """The object that holds a revision's manifest."""
    return f"revisions/{revision}/manifest.arrow"


def rejects_name(revision: str) -> str:
    """The object that holds the rows that were rejected on the way, one JSON object a line."""
    return f"revisions/{revision}/rejects.jsonl"


def damaged_manifest(revision: str) -> DamagedStoreError:
    """That the manifest of this revision is of no use."""
    return DamagedStoreError(
        f"The manifest of revision {revision[:12]}… can't be read.", remedy="Add the dataset again."
    )


def read_manifest(home: Home, revision: str) -> pa.Table:
    """The revision's manifest as a table of its files, what else it says in the schema's metadata."""
    try:
        table = pa.ipc.open_file(pa.py_buffer(home.read(manifest_name(revision)))).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise damaged_manifest(revision) from error
    return table


def open_revision(home: Home, revision: str) -> Revision:
    """The revision for reading, whether its samples are stored in the home or lie in files elsewhere."""
    from choline_data.store.in_place import HEAD, InPlaceRevision

    table = read_manifest(home, revision)
    in_place = HEAD in (table.schema.metadata or {})
    return InPlaceRevision(home, revision, table) if in_place else Revision(home, revision, table)


class Revision:
    """A revision for reading: any row range as record batches, in stored columns. Safe to share between threads."""

    def __init__(self, home: Home, revision: str, table: pa.Table | None = None) -> None:
        self._home = home
        self.revision = revision
        if table is None:
            table = read_manifest(home, revision)
        try:
            (raw,) = (table.schema.metadata or {}).values()
            head = self._head = orjson.loads(raw)
            self.columns: tuple[str, ...] = tuple(head["columns"])
            self.block_rows = int(head["block_rows"])
            self.constants: dict[str, str] = dict(head["constants"])
            self.about: dict[str, Any] = dict(head["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_manifest(revision) from error
        self._table = table
        self._schema = one.stored_schema(self.columns)
        self.file_rows = numbers(table["rows"])
        self._starts = np.concatenate([[0], np.cumsum(self.file_rows)])
        self._open: OrderedDict[int, BlockFile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Samples in the revision."""
        return int(self._starts[-1])

    @property
    def bytes(self) -> int:
        """Bytes of its store files."""
        return int(np.sum(numbers(self._table["bytes"])))

    @property
    def in_place(self) -> bool:
        """Whether its samples lie in files that are not the home's."""
        return False

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches that `read` gives."""
        return self._schema

    def files(self) -> list[StoredFile]:
        """The store files, in order."""
        return [StoredFile(r.pop("sha256").hex(), **r) for r in self._table.to_pylist()]

    def spans(self, split: str = "", config: str = "") -> list[tuple[int, int]]:
        """The row ranges of this split, or of several ("train+test"), and config ("" is any), merged where they touch."""
        out: list[tuple[int, int]] = []
        splits, configs = self._table["split"].to_pylist(), self._table["config"].to_pylist()
        wanted = {split} if split in splits else set(split.split("+"))
        for number, (its_split, its_config) in enumerate(zip(splits, configs, strict=True)):
            if (split and its_split not in wanted) or (config and its_config != config):
                continue
            start, end = int(self._starts[number]), int(self._starts[number + 1])
            if out and out[-1][1] == start:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        return out

    def splits(self) -> list[tuple[str, str, int]]:
        """Each (config, split) there is, with its rows."""
        counts: dict[tuple[str, str], int] = {}
        for row in self._table.select(["config", "split", "rows"]).to_pylist():
            key = (row["config"], row["split"])
            counts[key] = counts.get(key, 0) + row["rows"]
        return [(config, split, rows) for (config, split), rows in counts.items()]

    def _file(self, number: int) -> BlockFile:
        with self._lock:
            found = self._open.get(number)
            if found is not None:
                self._open.move_to_end(number)
                return found
        sha256 = self._table["sha256"][number].as_py().hex()
        opened = BlockFile(self._home, sha256, self._schema, self._table["bytes"][number].as_py())
        with self._lock:
            self._open[number] = opened
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def maps(self) -> list[pa.Buffer]:
        """The mapped files that are open now, the last used first."""
        with self._lock:
            return [file.mapped for file in reversed(self._open.values()) if file.mapped is not None]

    def read(self, start: int, stop: int, columns: Sequence[str] | None = None) -> list[pa.RecordBatch]:
        """Rows start … stop-1 as slices of blocks, without a copy where the home is local and not compressed."""
        if not 0 <= start <= stop <= self.rows:
            raise OutOfRangeError(f"Rows {start} to {stop} of a revision of {self.rows} rows.")
        wanted = None
        if columns is not None and len(names := [c for c in self._schema.names if c in columns]) < len(self._schema):
            wanted = names
        out: list[pa.RecordBatch] = []
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            base, end = int(self._starts[number]), int(self._starts[number + 1])
            if start < end:
                file = self._file(number)
                last = min(stop, end)
                for block in range((start - base) // self.block_rows, (last - 1 - base) // self.block_rows + 1):
                    first = base + block * self.block_rows
                    batch = file.block(block)
                    if wanted is not None:
                        batch = batch.select(wanted)
                    low, high = max(start, first), min(last, first + batch.num_rows)
                    out.append(batch if high - low == batch.num_rows else batch.slice(low - first, high - low))
                start = last
            number += 1
        return out
