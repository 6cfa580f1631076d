"""A revision: the immutable, normalised content of a dataset at one time, named by the digest of that content."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.columns.arrow_values import Ints, array_of, distinct, numbers
from choline_data.columns.ipc import Header
from choline_data.columns.parts import ArrowParts, BlockParts, Blocks, Parts, places_of
from choline_data.columns.row_ranges import cut_at, numbers_in
from choline_data.errors import CholineDataError, DamagedStoreError, OutOfRangeError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.places.mapped import MappedFile
from choline_data.store.blocks import BlockFile
from choline_data.store.manifest import Manifest, StoredFile, damaged_manifest, missing_manifest, read_manifest
from choline_data.store.object_names import manifest_name, rejects_name

__all__ = ["Manifest", "Revision", "StoredFile", "manifest_name", "rejects_name"]

_OPEN_FILES = 256


class Revision:
    """Reads any row range of a revision as record batches with the stored columns. Safe to share between threads."""

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
        self._places = None if self.in_place else places_of(self._schema)
        self._header = Header(self._schema)
        self.file_rows = numbers(table["rows"])
        self._starts: list[int] = [0, *np.cumsum(self.file_rows).tolist()]
        self._open: OrderedDict[int, BlockFile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """The number of samples in the revision."""
        return self._starts[-1]

    @property
    def bytes(self) -> int:
        """The total size of its store files in bytes."""
        return int(np.sum(numbers(self._table["bytes"])))

    @property
    def in_place(self) -> bool:
        """Whether the samples are in files outside the home (`add --in-place`)."""
        return False

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches that `read` returns."""
        return self._schema

    def files(self) -> list[StoredFile]:
        """Returns the store files, in order."""
        return [StoredFile(r.pop("sha256").hex(), **r) for r in self._table.to_pylist()]

    def spans(self, split: str = "", config: str = "") -> list[tuple[int, int]]:
        """Returns the row ranges [from, to) of a split, or of several splits ("train+test"), within a config.

        An empty split or config means all of them. Adjacent ranges are merged.
        """
        out: list[tuple[int, int]] = []
        splits, configs = self._table["split"].to_pylist(), self._table["config"].to_pylist()
        wanted = {split} if split in splits else set(split.split("+"))
        for number, (its_split, its_config) in enumerate(zip(splits, configs, strict=True)):
            if (split and its_split not in wanted) or (config and its_config != config):
                continue
            start, end = self._starts[number], self._starts[number + 1]
            if out and out[-1][1] == start:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        return out

    def splits(self) -> list[tuple[str, str, int]]:
        """Returns every pair of config and split, with its number of rows: (config, split, rows)."""
        counts: dict[tuple[str, str], int] = {}
        for row in self._table.select(["config", "split", "rows"]).to_pylist():
            key = (row["config"], row["split"])
            counts[key] = counts.get(key, 0) + row["rows"]
        return [(config, split, rows) for (config, split), rows in counts.items()]

    def _file(self, number: int, touched: list[MappedFile]) -> BlockFile:
        file = self._opened(number)
        if file.mapped is not None:
            touched.append(file.mapped)
        return file

    def _opened(self, number: int) -> BlockFile:
        with self._lock:
            file = self._open.get(number)
            if file is not None and (file.mapped is None or not file.mapped.lost):
                self._open.move_to_end(number)
                return file
        sha256 = self._table["sha256"][number].as_py().hex()
        try:
            opened = BlockFile(self._home, sha256, self._schema, self._table["bytes"][number].as_py())
        except (SourceNotFoundError, FileNotFoundError) as error:
            raise self._missing() from error
        opened.check_rows(int(self.file_rows[number]), self.block_rows)
        with self._lock:
            self._open[number] = opened
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def _missing(self) -> CholineDataError:
        """Returns the error for a missing store file: the revision was removed, or it is damaged."""
        if not self._home.exists(manifest_name(self.revision)):
            return missing_manifest(self._home, self.revision)
        return DamagedStoreError(
            f"A store file of revision {self.revision[:12]}… is missing.", remedy="Run `choline-data repair`."
        )

    def maps(self) -> list[pa.Buffer]:
        """Returns the mapped files that are open now, the most recently used first."""
        with self._lock:
            return [file.mapped.buffer for file in reversed(self._open.values()) if file.mapped is not None]

    def read(self, start: int, stop: int, columns: Sequence[str] | None = None) -> list[pa.RecordBatch]:
        """Returns rows start … stop-1 as slices of blocks.

        The blocks are checked copies, so later changes of the file are harmless.
        """
        return list(self._batches(start, stop, columns, BlockFile.block, []))

    def views(
        self, start: int, stop: int, columns: Sequence[str] | None, touched: list[MappedFile]
    ) -> list[pa.RecordBatch]:
        """Returns the same rows as `read`, as views of the mapped blocks if the files are mapped.

        Adds the mapped files to `touched`. The caller must read the views within `steady` for these files.
        """
        return list(self._batches(start, stop, columns, BlockFile.view, touched))

    def _batches(
        self,
        start: int,
        stop: int,
        columns: Sequence[str] | None,
        block_of: Callable[[BlockFile, int], pa.RecordBatch],
        touched: list[MappedFile],
    ) -> Iterator[pa.RecordBatch]:
        if not 0 <= start <= stop <= self.rows:
            raise OutOfRangeError(
                f"The revision has {self.rows} rows, not {start} to {stop}.", remedy="Ask for rows that it has."
            )
        wanted = None
        if columns is not None and len(names := [c for c in self._schema.names if c in columns]) < len(self._schema):
            wanted = names
        pieces = self._pieces(np.array([[start, stop]]))
        for number, block, low, count in zip(*(column.tolist() for column in pieces), strict=True):
            try:
                batch = block_of(self._file(number, touched), block)
            except (SourceNotFoundError, FileNotFoundError) as error:  # a mapped file stays readable when it is removed
                raise self._missing() from error
            if wanted is not None:
                batch = batch.select(wanted)
            yield batch if count == batch.num_rows else batch.slice(low, count)

    def _pieces(self, ranges: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Cuts row ranges where blocks end. Returns, for each piece, its file, its block in the file, its first row in the
        block, and its number of rows.
        """
        parts, files = cut_at(ranges, np.array(self._starts))
        starts = parts[:, 0] - np.array(self._starts)[files]
        blocks, lows = np.divmod(starts, self.block_rows)
        sizes = parts[:, 1] - parts[:, 0]
        counts = -(-(lows + sizes) // self.block_rows)  # the number of blocks of each range
        if (counts > 1).any():
            begins = np.repeat(np.cumsum(counts) - counts, counts)
            number = np.arange(len(begins)) - begins
            files, blocks, lows, sizes = (np.repeat(column, counts) for column in (files, blocks, lows, sizes))
            done = np.where(number > 0, number * self.block_rows - lows, 0)
            blocks, lows = blocks + number, np.where(number > 0, 0, lows)
            sizes = np.minimum(sizes - done, self.block_rows - lows)
        return files, blocks, lows, sizes

    def columns_of(self, ranges: Ints, columns: Sequence[str], touched: list[MappedFile]) -> dict[str, Parts]:
        """Returns these columns for the rows of all these ranges, one range after the other.

        Copies nothing, like `views`, except where several ranges lie in one block that is not mapped.
        """
        columns_in_blocks = self._in_blocks(ranges, columns, touched)
        if columns_in_blocks is not None:
            return columns_in_blocks
        batches: list[pa.RecordBatch] = []
        begins = np.flatnonzero(np.diff(ranges[:, 0] // self.block_rows, prepend=-1))
        for group in np.split(ranges, begins[1:]):  # several ranges in one block are read together
            low, high = int(group[:, 0].min()), int(group[:, 1].max())
            parts = self.views(low, high, columns, touched)
            if len(group) > 1:
                flat = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
                parts = [flat.take(array_of(numbers_in(group[:, 0] - low, group[:, 1] - group[:, 0])))]
            batches += parts
        maps = self.maps()
        return {name: ArrowParts(self.schema.field(name).type, [b[name] for b in batches], maps) for name in columns}

    def _in_blocks(self, ranges: Ints, columns: Sequence[str], touched: list[MappedFile]) -> dict[str, Parts] | None:
        """Returns the same as `columns_of`, but reads only the headers of mapped blocks.

        Returns None if that is not possible for these blocks.
        """
        if self._places is None or not len(ranges):
            return None
        files, blocks, lows, counts = self._pieces(ranges)
        # if several pieces are in one block, the header of the block is read once
        begins = np.diff(blocks, prepend=-1) | np.diff(files, prepend=-1)
        first, which = np.flatnonzero(begins), np.cumsum(begins != 0) - 1
        of_file, of_block = files[first], blocks[first]
        maps: list[pa.Buffer] = []
        number_of = np.empty(len(first), np.int64)
        buffers: Ints | None = None
        nulls: Ints | None = None
        for number in distinct(of_file):
            file = self._file(number, touched)
            mine = np.flatnonzero(of_file == number)
            block_numbers = file.numbers(of_block[mine], self._header)
            if block_numbers is None or file.mapped is None:
                return None
            if buffers is None or nulls is None:
                nulls, buffers = (np.empty((len(first), part.shape[1]), np.int64) for part in block_numbers)
            nulls[mine], buffers[mine] = block_numbers
            number_of[mine] = len(maps)
            maps.append(file.mapped.buffer)
        assert buffers is not None and nulls is not None
        blocks_read = Blocks(maps, number_of[which], buffers[which], nulls[which])
        return {name: BlockParts(blocks_read, self._places[name], lows, counts) for name in columns}
