"""The splits and configs of a plan: which shards belong to which, and which column of a table decides it for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.base import FormatClaim, Shard, SourceChunk, foreign
from choline_data.adapters.mapping.extra import is_text
from choline_data.adapters.reading.split_words import split_named
from choline_data.adapters.reading.splits import SplitBy, settled, split_by, split_called, with_training
from choline_data.columns.arrow_values import numbers
from choline_data.errors import InvalidOptionError, MissingFieldError

MAX_SPLITS = 256
# Columns with these names decide the split of a row, if all their sampled values are names of splits.
_COLUMNS = ("split", "_split", "data_split", "dataset_split", "subset", "partition", "set")

Part = tuple[str, str]  # a pair: the config and the split


@dataclass(frozen=True)
class RowParts:
    """The columns whose values decide the config and the split of a row. If a name is empty, the shard decides."""

    config: str = ""
    split: str = ""

    def __bool__(self) -> bool:
        return bool(self.config or self.split)

    def divide(
        self, rows: pa.RecordBatch, chunk: pa.RecordBatch, keep: Any, above: Part
    ) -> Iterator[tuple[Part, pa.RecordBatch]]:
        """Returns `rows` by config and split, in the order in which these occur.

        `rows` are the first of the chunk's rows that `keep` marks.
        """
        names = [
            self._names(name, chunk, keep, default)
            for name, default in zip((self.config, self.split), above, strict=True)
        ]
        keys = list(zip(*names, strict=True))[: rows.num_rows]
        pairs = list(dict.fromkeys(keys))
        if len(pairs) == 1:
            yield pairs[0], rows
            return
        code = {pair: number for number, pair in enumerate(pairs)}
        codes = np.fromiter((code[pair] for pair in keys), np.int32, rows.num_rows)
        for number, pair in enumerate(pairs):
            yield pair, rows.filter(pa.array(codes == number))

    def _names(self, column: str, chunk: pa.RecordBatch, keep: Any, default: str) -> list[str]:
        if chunk.schema.get_field_index(column) < 0:  # No column is named, or no row of this chunk has a value for it.
            count = chunk.num_rows if keep is None else int(numbers(keep).sum())
            return [default] * count
        values = column_as_text(chunk, column)
        if keep is not None:
            values = values.filter(keep)
        called = {value: split_called(value) if value else default for value in pc.unique(values).to_pylist()}
        return [called[value] for value in values.to_pylist()]


def too_many_splits(name: str) -> InvalidOptionError:
    """Returns the error for a column that has too many different values to hold splits."""
    return InvalidOptionError(
        f"{name}: the column of --split-by or --config-by has over {MAX_SPLITS} values.", remedy="Name another column."
    )


BY_SHARD = RowParts()


def column_as_text(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Returns the column as text. Raises MissingFieldError if there is none, and InvalidOptionError if its values are
    lists or objects.
    """
    at = batch.schema.get_field_index(column)
    if at < 0:
        raise MissingFieldError(column, "--split-by", batch.schema.names)
    values = batch.column(at)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        raise InvalidOptionError(
            f"The column {column!r} has values of type {values.type}, which can't be names.",
            remedy="Name another column.",
        )
    return values.cast(pa.string())


def split_shards(
    claims: Sequence[FormatClaim], by: SplitBy, config_by: SplitBy, config: str, split: str
) -> tuple[list[tuple[FormatClaim, list[Shard]]], dict[str, str]]:
    """Returns the shards of each claim with their splits and configs, and the files that are left out. Omits shards of
    splits and configs that the user did not ask for.
    """
    listed: list[tuple[FormatClaim, list[Shard]]] = []
    left_out: dict[str, str] = {}
    for claim in claims:
        if not claim.files:
            continue
        with foreign(claim.files[0].name):
            shards = claim.adapter.shards(claim.files)
        if config_by.how == "table":
            shards = [replace(s, config=split_called(s.member)) if s.member else s for s in shards]
        if claim.split or claim.config:
            shards = [replace(s, split=s.split or claim.split, config=s.config or claim.config) for s in shards]
        shards, out = settled(shards, claim.files, by)
        listed.append((claim, shards))
        left_out |= out
    if by.how == "names":
        whole = iter(with_training([shard for _, shards in listed for shard in shards]))
        listed = [(claim, [next(whole) for _ in shards]) for claim, shards in listed]
    return _asked_for(listed, config, split), left_out


def _asked_for(
    listed: list[tuple[FormatClaim, list[Shard]]], config: str, split: str
) -> list[tuple[FormatClaim, list[Shard]]]:
    matching = [
        (claim, [s for s in shards if split in ("", s.split) and config in ("", s.config)]) for claim, shards in listed
    ]
    there = sorted({(s.config, s.split) for _, shards in listed for s in shards})
    if there and not any(shards for _, shards in matching):
        known = ", ".join("/".join(filter(None, pair)) or "one without a name" for pair in there[:50])
        raise InvalidOptionError("No such config or split.", remedy=f"There are: {known}.")
    return [(claim, shards) for claim, shards in matching if shards]


def row_parts(chunks: Sequence[SourceChunk], shards: Sequence[Shard], by: SplitBy, config_by: str) -> RowParts:
    """Returns the columns that decide the splits and configs of these rows: those that the user named, or a column
    named `split`.
    """
    named = split_by(config_by, "--config-by")
    parts = RowParts(named.column, by.column)
    batches = [chunk.batch for chunk in chunks if chunk.batch.num_rows]
    for column in filter(None, (parts.config, parts.split)):
        for batch in batches:
            column_as_text(batch, column)
    if parts.split or by.how != "names" or any(s.split for s in shards):
        return parts
    name_of_column = next((name for name in _COLUMNS if batches and all(_holds_splits(b, name) for b in batches)), "")
    return replace(parts, split=name_of_column)


def _holds_splits(batch: pa.RecordBatch, column: str) -> bool:
    at = batch.schema.get_field_index(column)
    if at < 0 or not is_text(batch.column(at).type):
        return False
    values = pc.unique(batch.column(at)).to_pylist()
    return all(isinstance(value, str) and split_named(value) for value in values)
