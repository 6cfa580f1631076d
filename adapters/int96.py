"""Handles INT96, Parquet's old timestamp of days and nanoseconds. Its range exceeds that of any Arrow timestamp.

Arrow wraps values that do not fit, without an error. So each row group with such columns is read in nanoseconds, or in
microseconds if a time does not fit into nanoseconds. A row with a time that this unit cannot hold exactly is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from choline_data.adapters.base import BATCH_ROWS
from choline_data.columns.arrow_values import fill_nulls, numbers

REASON = "holds an INT96 time that the timestamps of its row group don't hold exactly"
Integers = npt.NDArray[np.int64]
_NANOSECONDS = (2**63 - 1) // 10**9 - 1  # seconds before or after 1970 that fit into nanoseconds
_MICROSECONDS = (2**63 - 1) // 10**6 - 1


def columns_of(meta: pq.RowGroupMetaData) -> list[str]:
    """Returns the top-level columns that contain INT96 values at any depth."""
    leaves = (meta.column(i) for i in range(meta.num_columns))
    return list(dict.fromkeys(c.path_in_schema.split(".")[0] for c in leaves if c.physical_type == "INT96"))


def unit_of(
    opened: Callable[[str], AbstractContextManager[pq.ParquetFile]], group: int, columns: list[str]
) -> tuple[str, Integers]:
    """Returns the unit for the times of a row group, and the rows with a time that this unit cannot hold exactly.

    The unit is "us" if a time does not fit into nanoseconds, else "ns".
    """
    lost: dict[str, list[Integers]] = {"ns": [], "us": []}
    beyond = False
    first = 0
    with ExitStack() as stack:
        files = [stack.enter_context(opened(each)) for each in ("s", "us", "ns")]
        read = (f.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False) for f in files)
        for batches in zip(*read, strict=True):
            for number in range(batches[0].num_columns):
                by_leaf = zip(*(_times(batch.column(number)) for batch in batches), strict=True)
                for (rows, seconds), (_, micro), (_, nano) in by_leaf:
                    far = np.abs(seconds)
                    outside = far > _MICROSECONDS
                    beyond |= bool(np.any((far > _NANOSECONDS) & ~outside))
                    # Both values wrap in the same way, so this comparison is valid for the true values.
                    inexact = nano.view(np.uint64) != micro.view(np.uint64) * np.uint64(1000)
                    lost["us"].append(first + rows[inexact | outside])
                    lost["ns"].append(first + rows[far > _NANOSECONDS])
            first += batches[0].num_rows
    unit = "us" if beyond else "ns"
    return unit, np.unique(np.concatenate([np.empty(0, np.int64), *lost[unit]]))


def _times(column: pa.Array, rows: Integers | None = None) -> Iterator[tuple[Integers, Integers]]:
    """Yields, for every leaf of a column, the row of each timestamp, and the timestamps as integers (0 for null)."""
    kind = column.type
    rows = np.arange(len(column), dtype=np.int64) if rows is None else rows
    if pa.types.is_timestamp(kind):
        yield rows, numbers(fill_nulls(column.cast(pa.int64()), 0))
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _times(child, rows)
    elif pa.types.is_nested(kind):
        if pa.types.is_map(kind):
            column = column.cast(pa.large_list(pa.struct([kind.key_field, kind.item_field])))
        lengths = numbers(fill_nulls(pc.list_value_length(column), 0))
        yield from _times(column.flatten(), np.repeat(rows, lengths))
