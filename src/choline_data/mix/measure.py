"""Measures the mean size of a source's samples on a fixed set of its rows. Conversions between units, and explanations,
use these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.order.recipe import RecipeSource
from choline_data.store.windows import Store

# bytes per token, measured on English prose with vocabularies of 50,000 to 130,000 tokens
BYTES_A_TOKEN = Fraction(43, 10)
_PLACES = 16
_ROWS_A_PLACE = 256


@dataclass(frozen=True)
class Measure:
    """The size of some rows: bytes of text, and bytes of all stored columns."""

    rows: int
    text_bytes: int
    bytes: int

    @property
    def tokens(self) -> Fraction:
        """The estimated number of tokens in the rows."""
        return self.text_bytes / BYTES_A_TOKEN


def measure_source(store: Store, source: RecipeSource) -> Measure:
    """Measures up to 4,096 rows, evenly spread over the rows that the source serves. Of a small source, measures all rows."""
    revision = store.revision(source.revision)
    spans = revision.spans(source.split, source.config)
    if source.where:
        from choline_data.where.selection import selected_rows, within

        chosen = within(selected_rows(store.home, revision, source.where), spans)
    else:
        chosen = None
    count = len(chosen) if chosen is not None else sum(end - start for start, end in spans)
    starts = np.cumsum([0, *(end - start for start, end in spans)])
    rows = text = stored = 0
    step = max(_ROWS_A_PLACE, -(-count // _PLACES))
    for first in range(0, count, step):
        ranks = np.arange(first, min(first + _ROWS_A_PLACE, count), dtype=np.int64)
        if chosen is not None:
            at = chosen[ranks]
        else:
            span = np.searchsorted(starts, ranks, side="right") - 1
            at = ranks - starts[span] + np.array([start for start, _ in spans], dtype=np.int64)[span]
        low, high = int(at[0]), int(at[-1]) + 1
        # The rows of a sparse selection are far apart, so only its first rows are measured.
        if high - low > 16 * _ROWS_A_PLACE:
            high = low + 16 * _ROWS_A_PLACE
            at = at[at < high]
        for part in revision.read(low, high):
            inside = at[(at >= low) & (at < low + part.num_rows)] - low
            low += part.num_rows
            if len(inside):
                rows_taken = part.take(pa.array(inside))
                rows += len(inside)
                text += _text_bytes(rows_taken)
                stored += rows_taken.nbytes
    return Measure(max(rows, 1), text, stored)


def _text_bytes(batch: pa.RecordBatch) -> int:
    """Returns the size in bytes of the text that the text view would show, accurate to a few per cent."""
    names = batch.schema.names
    if "text" in names and batch["text"].null_count < batch.num_rows:
        return _length(batch["text"])
    if "turns" in names and batch["turns"].null_count < batch.num_rows:
        return _length(pc.struct_field(pc.list_flatten(batch["turns"]), "content"))
    return _length(batch["extra"]) if "extra" in names else 0


def _length(column: pa.Array) -> int:
    return int(pc.sum(pc.binary_length(column)).as_py() or 0)
