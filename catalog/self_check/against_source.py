"""The self-check of `add`: after the rows are stored and before the revision is visible, compares a sample with the source.

It costs at most a few blocks of the store and the beginnings of a few files, however big the source is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from choline_data import schema as one
from choline_data.adapters.archive import Archive
from choline_data.adapters.base import Adapter, Shard
from choline_data.adapters.reading.class_labels import Named
from choline_data.catalog.account import RowCount
from choline_data.catalog.ingest import UnitResult
from choline_data.catalog.planning import IngestPart, IngestPlan
from choline_data.catalog.self_check.comparing import difference
from choline_data.catalog.self_check.independent import count_of, rows_of
from choline_data.catalog.self_check.source_files import SourceFiles
from choline_data.catalog.self_check.source_row import SourceRow
from choline_data.errors import SelfCheckError
from choline_data.places.home import Home
from choline_data.store import BlockFile

UNITS = 6
SHARDS = 3
_Item = TypeVar("_Item")


def check_stored(plan: IngestPlan, home: Home, results: Sequence[UnitResult]) -> int:
    """Returns the number of rows that were compared. Raises SelfCheckError if a stored row differs from the source."""
    units = plan.units()
    compared = 0
    with SourceFiles() as files:
        for result in _spread(sorted(results, key=lambda r: r.number), UNITS):
            stored = _StoredRows(plan, home, result)
            placed = list(zip(units[result.number].shards, result.counts, _starts(result), strict=False))
            for (number, shard), count, start in _spread(placed, SHARDS):
                compared += _check_shard(files, plan, plan.parts[number], shard, count, stored, start)
    return compared


def _check_shard(
    files: SourceFiles,
    plan: IngestPlan,
    part: IngestPart,
    shard: Shard,
    count: RowCount,
    stored: _StoredRows,
    start: int,
) -> int:
    """Compares some rows of the shard with the store. The shard's first sample is number `start` of the unit. Returns
    how many rows were compared.
    """
    adapter = _innermost(part.adapter)
    whole = not (count.rejected or plan.limit or part.by_row)
    stated = count_of(files, adapter, shard)
    if stated not in (-1, count.read) and not plan.limit:
        raise SelfCheckError(shard.origin, count.read, f"the source has {stated:,} rows, but {count.read:,} were read")
    compared = 0
    for row in rows_of(files, adapter, shard):
        if row.place < 0 and not whole:
            continue
        if row.place < 0:
            row = replace(row, place=count.published - 1, number=count.read - 1)
        compared += _compare(part, shard, row, stored, start, whole=whole)
    return compared


def _compare(part: IngestPart, shard: Shard, row: SourceRow, stored: _StoredRows, start: int, *, whole: bool) -> int:
    """Compares one row. Returns 1 if the store has the row. `whole` says that the store must have every row of the shard."""
    sample = stored.at(start + row.place, row.number, shard)
    if sample is None:
        if whole:
            raise SelfCheckError(shard.origin, row.number, "the store does not have this row at the expected place")
        return 0
    adapter = part.adapter
    # the sample has class names where the source has numbers
    skipped = {column for column, _ in adapter.labels} if isinstance(adapter, Named) else set()
    values = {name: value for name, value in row.values.items() if name not in skipped}
    fields = {column: role for role, column in part.mapping.fields} | {"": part.mapping.form}
    how = difference(replace(row, values=values), sample, fields)
    if how:
        raise SelfCheckError(shard.origin, row.number, how)
    return 1


def _innermost(adapter: Adapter) -> Adapter:
    """Returns the adapter that reads the files themselves."""
    while isinstance(adapter, (Named, Archive)):
        inner = adapter.adapter if isinstance(adapter, Named) else adapter.inner
        if inner is None:
            break
        adapter = inner
    return adapter


def _starts(result: UnitResult) -> list[int]:
    """Returns, for each shard, the place of its first sample among the samples of the unit."""
    return list(accumulate((count.published for count in result.counts), initial=0))


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Returns at most `count` items: the first, the last, and evenly spread ones between them."""
    if len(items) <= count:
        return list(items)
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def _with_written_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the samples with their times as text, in the notation that stored times replace."""
    at = batch.schema.get_field_index("time")
    if at < 0:
        return batch
    seconds = batch.column(at).cast(pa.timestamp("s", "UTC"), safe=False)
    return batch.set_column(at, "time", pc.strftime(seconds, format="%Y-%m-%dT%H:%M:%SZ"))


@dataclass
class _StoredRows:
    """Reads the samples of a unit, in their order. Keeps the last block in memory."""

    plan: IngestPlan
    home: Home
    result: UnitResult
    _block: tuple[int, int] = (-1, -1)
    _batch: pa.RecordBatch | None = None

    def at(self, place: int, number: int, shard: Shard) -> Mapping[str, object] | None:
        """Returns the sample of row `number` of the shard, or None. Searches in the block that has sample number
        `place` of the unit.
        """
        # rows that a column divides into several splits are in several store files
        if len({(file.config, file.split) for file in self.result.files}) > 1:
            samples = (self._found(file, 0, number, shard) for file in range(min(len(self.result.files), UNITS)))
            return next((sample for sample in samples if sample is not None), None)
        for at, file in enumerate(self.result.files):
            if place < file.rows:
                return self._found(at, place, number, shard)
            place -= file.rows
        return None

    def _found(self, at: int, place: int, number: int, shard: Shard) -> Mapping[str, object] | None:
        batch = self._read(at, place // self.plan.block_rows)
        rows = batch.column("origin").field("row").to_pylist()
        here = place % self.plan.block_rows
        near = [here, *range(len(rows))] if here < len(rows) else range(len(rows))
        for each in near:
            if rows[each] == number:
                sample: dict[str, object] = _with_written_time(batch.slice(each, 1)).to_pylist()[0]
                name = dict(sample["origin"])["file"]  # type: ignore[call-overload]
                if name == shard.origin or any(file.name == name for file in shard.files):
                    return sample
        return None

    def _read(self, at: int, block: int) -> pa.RecordBatch:
        if self._batch is None or self._block != (at, block):
            file = self.result.files[at]
            opened = BlockFile(self.home, file.sha256, one.stored_schema(self.plan.columns), file.bytes)
            self._block, self._batch = (at, block), opened.block(block)
        return self._batch
