"""Class labels of hub datasets: replaces the numbers of classes by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.base import Adapter, Shard, SourceChunk, SourceFile

Labels = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Named:
    """An adapter that reads with `adapter` and replaces class numbers by class names. The column `<column>_id` keeps
    the numbers.
    """

    adapter: Adapter
    labels: Labels

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns the adapter's shards."""
        return self.adapter.shards(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the adapter's chunks, with names."""
        for chunk in self.adapter.read(shard, start=start):
            yield replace(chunk, batch=named(chunk.batch, self.labels))


def named(batch: pa.RecordBatch, labels: Labels) -> pa.RecordBatch:
    """Returns `batch` with class numbers replaced by names, as in `Named`. Numbers out of range, such as -1, become null."""
    for column, names in labels:
        at = batch.schema.get_field_index(column)
        if at < 0:
            continue
        numbers = batch.column(at)
        listed = pa.types.is_list(numbers.type) or pa.types.is_large_list(numbers.type)
        flat = numbers.values if listed else numbers
        if not pa.types.is_integer(flat.type):
            continue
        flat = flat.cast(pa.int64())
        known = pc.and_(pc.greater_equal(flat, 0), pc.less(flat, len(names)))
        words: Any = pc.take(pa.array(names, pa.string()), pc.if_else(known, flat, None))
        if listed:
            words = type(numbers).from_arrays(numbers.offsets, words, mask=pc.is_null(numbers))
        batch = batch.set_column(at, column, words).add_column(at + 1, f"{column}_id", numbers)
    return batch


def labels_of_features(features: Any) -> Labels:
    """Returns the class labels in a card's `features` list, or in the `features` object that the `datasets` library writes."""
    if isinstance(features, dict):
        pairs = [(str(name), feature) for name, feature in features.items()]
    elif isinstance(features, list):
        pairs = [(str(f.get("name")), f) for f in features if isinstance(f, dict)]
    else:
        return ()
    return tuple((name, names) for name, feature in pairs if (names := _names(feature)))


def _names(feature: Any) -> tuple[str, ...]:
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel":
        return _listed(feature.get("names"))
    for key in ("dtype", "sequence", "list", "feature"):
        inner = feature.get(key)
        if isinstance(inner, dict):
            label = inner.get("class_label")
            return _listed(label.get("names")) if isinstance(label, dict) else _names(inner)
    label = feature.get("class_label")
    return _listed(label.get("names")) if isinstance(label, dict) else ()


def _listed(names: Any) -> tuple[str, ...]:
    if isinstance(names, dict):
        if not all(str(k).isdigit() for k in names):
            return ()
        table = {int(k): str(v) for k, v in names.items()}
        return (
            tuple(table.get(i, str(i)) for i in range(max(table, default=-1) + 1))
            if max(table, default=0) < 1e6
            else ()
        )
    return tuple(str(n) for n in names) if isinstance(names, list) else ()
