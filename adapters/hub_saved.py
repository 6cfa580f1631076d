"""Reads folders that `datasets.save_to_disk` writes: Arrow streams with dataset_info.json and state.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_ROWS,
    FormatClaim,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    chunk_of,
    from_row,
)
from choline_data.adapters.reading.class_labels import Labels, labels_of_features, named
from choline_data.adapters.reading.documents import document, one_shard_each
from choline_data.adapters.reading.io import open_raw
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceNotFoundError, one_line


@dataclass(frozen=True)
class Saved:
    """Reads the Arrow streams of a saved dataset. Class numbers become names."""

    labels: Labels = ()

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each Arrow file, in the order of state.json."""
        return one_shard_each([f for f in files if f.name.endswith(".arrow")])

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from `start` on."""
        return from_row(start, self._chunks(shard))

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        row = 0
        try:
            with open_raw(shard.path) as file, pa.ipc.open_stream(file) as stream:
                for whole in stream:
                    whole.validate(full=True)
                    for at in range(0, whole.num_rows, BATCH_ROWS):
                        batch = named(_storage(whole.slice(at, BATCH_ROWS)), self.labels)
                        yield chunk_of(batch, row)
                        row += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise SourceDamagedError(
                f"{shard.name} can't be read after row {row} ({one_line(error, 160)}).",
                remedy="Save it again.",
            ) from error


ADAPTER = Saved


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for each saved dataset. Under a `dataset_dict.json`, the folder's name is the split."""
    by_name = {f.name: f for f in source.files}
    claims = []
    for state in [f for f in source.files if f.name.rsplit("/", 1)[-1] == "state.json"]:
        prefix = state.name[: -len("state.json")]
        info = by_name.get(prefix + "dataset_info.json")
        if info is None:
            continue
        files, split = _listed(state, by_name, prefix)
        details = document(info.path, info.name)
        labels = labels_of_features(details.get("features") if isinstance(details, dict) else None)
        above = prefix[:-1].rpartition("/")[0]
        table = by_name.get(f"{above}/dataset_dict.json".lstrip("/"))
        if table is not None:
            split = prefix[:-1].rpartition("/")[2]
        over = tuple((f.name, "describes the saved dataset") for f in (state, info, table) if f is not None)
        claims.append(
            FormatClaim(
                Saved(labels),
                files,
                1.0,
                f"save_to_disk at {prefix or 'the root'}",
                split=split,
                described=over,
            )
        )
    return claims


def _listed(state: SourceFile, by_name: dict[str, SourceFile], prefix: str) -> tuple[tuple[SourceFile, ...], str]:
    details: Any = document(state.path, state.name)
    entries = details.get("_data_files") if isinstance(details, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise SourceFormatError(f"{state.name}: no list of data files.", remedy="Save the dataset again.")
    if details.get("_indices_data_files") or details.get("_indices_files"):
        raise SourceFormatError(
            f"{state.name}: the dataset selects its rows by an index.",
            remedy="Call flatten_indices() on the dataset, and save it again.",
        )
    names = [prefix + str(e.get("filename")) for e in entries]
    missing = [n for n in names if n not in by_name]
    if missing:
        raise SourceNotFoundError(
            f"{missing[0]} is not there, though {state.name} names it.", remedy="Copy the whole folder."
        )
    return tuple(by_name[n] for n in names), str(details.get("_split") or "")


def _storage(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with extension types replaced by their storage types."""
    columns = [c.storage if isinstance(c, pa.ExtensionArray) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
