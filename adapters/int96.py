"""INT96, the old timestamp of Parquet: days and nanoseconds, which hold more than any Arrow timestamp does.

Arrow wraps what does not fit, without a word. So each row group with such columns is read in the finest unit that holds
all of its times exactly, and refused where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters.base import BATCH_ROWS
from choline_data.columns import filled, numbers
from choline_data.errors import SourceFormatError, one_line

_NANOSECONDS = (2**63 - 1) // 10**9 - 1  # seconds to either side of 1970 that fit into nanoseconds
_MICROSECONDS = (2**63 - 1) // 10**6 - 1


def columns_of(meta: pq.RowGroupMetaData) -> list[str]:
    """The top-level columns that hold INT96, at any depth."""
    found = (meta.column(i) for i in range(meta.num_columns))
    return list(dict.fromkeys(c.path_in_schema.split(".")[0] for c in found if c.physical_type == "INT96"))


def unit_of(
    opened: Callable[[str], AbstractContextManager[pq.ParquetFile]], group: int, columns: list[str], name: str
) -> str:
    """ "ns" where the group's times fit into nanoseconds, "us" where only that holds them all; else SourceFormatError."""
    beyond = coarse = ""  # a column with times that nanoseconds do not hold; one with times that need them
    with ExitStack() as stack:
        files = [stack.enter_context(opened(each)) for each in ("s", "us", "ns")]
        read = (f.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False) for f in files)
        for batches in zip(*read, strict=True):
            for number, column in enumerate(batches[0].schema.names):
                for seconds, micro, nano in zip(*(_times(batch.column(number)) for batch in batches), strict=True):
                    far = int(np.abs(seconds).max(initial=0))
                    if far > _MICROSECONDS:
                        raise _not_exact(name, column)
                    if far > _NANOSECONDS:
                        beyond = column
                    # Both wrap alike, so this difference is that of the true values.
                    if np.any(nano.view(np.uint64) - micro.view(np.uint64) * np.uint64(1000)):
                        coarse = column
    if beyond and coarse:
        raise _not_exact(name, beyond)
    return "us" if beyond else "ns"


def _not_exact(name: str, column: str) -> SourceFormatError:
    return SourceFormatError(
        f"{name}: column {one_line(column, 60)!r} holds INT96 times that no one Arrow timestamp holds exactly.",
        remedy="Write the file again with timestamps of microseconds, or without that column.",
    )


def _times(column: pa.Array) -> Iterator[np.ndarray]:
    """The timestamps at every leaf of a column, as integers; 0 for null."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        yield numbers(filled(column.cast(pa.int64()), 0))
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _times(child)
    elif pa.types.is_map(kind):
        yield from _times(column.keys)
        yield from _times(column.items)
    elif pa.types.is_nested(kind):
        yield from _times(column.flatten())
