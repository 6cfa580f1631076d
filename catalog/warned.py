"""Warnings about a source before it is stored, computed from the sampled rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.reading.plausible import DOUBLE_ENCODED
from choline_data.columns.arrow_values import byte_lengths, constant, fill_nulls, numbers
from choline_data.store.sample_ids import sample_ids

MIN_ROWS = 20  # with fewer rows, a share is not meaningful
EMPTY_SHARE = 0.2
REPEATED_SHARE = 0.2
GARBLED_SHARE = 0.02
MARKUP_SHARE = 0.3
GIANT_BYTES = 1 << 20
GIANT_TIMES = 50

_MARKUP = r"</?(?:div|p|span|br|table|tr|td|li|ul|a|script|h[1-6])(?:\s[^<>]*)?/?>"


@dataclass(frozen=True)
class SourceWarning:
    """A warning about a source. `reason` is a fixed word; `message` has the numbers."""

    reason: str
    message: str
    remedy: str


@dataclass(frozen=True)
class SampledPart:
    """Some rows of a part as samples, and the file that they come from."""

    where: str
    batch: pa.RecordBatch
    rows: np.ndarray


def warnings_of(sampled: Sequence[SampledPart]) -> tuple[SourceWarning, ...]:
    """Returns the warnings for the sampled rows of one part. Empty if there is nothing to warn about."""
    total = sum(s.batch.num_rows for s in sampled)
    warnings_of_rows = [_giant(sampled)]
    if total >= MIN_ROWS:
        warnings_of_rows += [*(_share(sampled, sign) for sign in _SIGNS), _repeated(sampled, total)]
    return tuple(w for w in warnings_of_rows if w is not None)


def _texts(batch: pa.RecordBatch) -> tuple[pa.Array, np.ndarray]:
    """Returns the texts of the samples or of their turns, and the row number of each text."""
    if "text" in batch.schema.names and batch["text"].null_count < batch.num_rows:
        return batch["text"], np.arange(batch.num_rows)
    if "turns" in batch.schema.names:
        turns = batch["turns"]
        return pc.struct_field(turns.flatten(), "content"), numbers(pc.list_parent_indices(turns))
    return pa.nulls(0, pa.large_string()), np.empty(0, np.int64)


@dataclass(frozen=True)
class _Sign:
    """A sign of a problem in texts. A row has it if one of its texts has it; with `all_turns`, if all texts have it."""

    reason: str
    what: str
    remedy: str
    least: float
    test: Callable[[pa.Array], pa.Array]
    all_turns: bool = False


_SIGNS = (
    _Sign(
        "EMPTY_TEXT",
        "have an empty text",
        "Leave them out with a predicate.",
        EMPTY_SHARE,
        lambda texts: pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), constant(0, pa.int64())),
        all_turns=True,  # a turn with only tool calls has no content
    ),
    _Sign(
        "GARBLED_TEXT",
        "look like UTF-8 read in another encoding, or have lost characters",
        "Correct the source (ftfy does), or fetch it again in its own encoding.",
        GARBLED_SHARE,
        lambda texts: pc.match_substring_regex(texts, DOUBLE_ENCODED),
    ),
    _Sign(
        "MARKUP",
        "hold HTML tags",
        "Extract the text first, unless the markup is what you want.",
        MARKUP_SHARE,
        lambda texts: pc.match_substring_regex(texts, _MARKUP),
    ),
)


def _share(sampled: Sequence[SampledPart], sign: _Sign) -> SourceWarning | None:
    count = total = 0
    first = ""
    for s in sampled:
        texts, rows = _texts(s.batch)
        every = np.unique(rows)
        mask = numbers(fill_nulls(sign.test(texts), False))
        having = np.setdiff1d(every, rows[~mask]) if sign.all_turns else np.unique(rows[mask])
        total += len(every)
        count += len(having)
        if len(having) and not first:
            first = f"{s.where}, row {int(s.rows[having[0]])}"
    if total < MIN_ROWS or count < max(2, sign.least * total):
        return None
    return SourceWarning(sign.reason, f"{count} of {total} sampled rows {sign.what}; the first: {first}.", sign.remedy)


def _repeated(sampled: Sequence[SampledPart], total: int) -> SourceWarning | None:
    ids = pa.chunked_array([sample_ids(s.batch) for s in sampled])
    repeats = total - pc.count_distinct(ids).as_py()
    if repeats < REPEATED_SHARE * total:
        return None
    message = f"{repeats} of {total} sampled rows repeat another one."
    return SourceWarning("REPEATED_ROWS", message, "Leave repeats out with --dedup exact.")


def _giant(sampled: Sequence[SampledPart]) -> SourceWarning | None:
    sizes = [_bytes(s.batch) for s in sampled]
    every = np.concatenate(sizes) if sizes else np.empty(0)
    if not len(every):
        return None
    median, biggest = int(np.median(every)), int(every.max())
    if biggest < max(GIANT_BYTES, GIANT_TIMES * median) or len(every) < 2:
        return None
    at = next(n for n, size in enumerate(sizes) if len(size) and size.max() == biggest)
    place = f"{sampled[at].where}, row {int(sampled[at].rows[int(sizes[at].argmax())])}"
    message = f"A sampled row has {biggest:,} bytes, {biggest // max(median, 1):,} times the median: {place}."
    return SourceWarning(
        "GIANT_ROW", message, "Divide such rows into smaller ones, because a stream sends a row as a whole."
    )


def _bytes(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the number of text bytes in each row, including `extra`."""
    sizes = np.zeros(batch.num_rows, np.int64)
    texts, rows = _texts(batch)
    np.add.at(sizes, rows, byte_lengths(texts))
    if "extra" in batch.schema.names:
        sizes += byte_lengths(batch["extra"])
    return sizes
