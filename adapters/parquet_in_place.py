"""Reads samples from Parquet files that are registered in place. A row group is decoded when its rows are requested."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from choline_data import schema as one
from choline_data.adapters.base import Shard
from choline_data.adapters.mapping import Mapping, forms
from choline_data.adapters.mapping.samples_of import samples_of
from choline_data.adapters.parquet import Parquet, footer_of
from choline_data.errors import CholineDataError, DamagedStoreError, SourceDamagedError
from choline_data.places.locations import filesystem, is_url
from choline_data.store.faults import IN_PLACE_REMEDY
from choline_data.store.manifest_in_place import FileInPlace

_FOOTERS = 256  # maximum number of footers that a reader caches


def _state(location: str) -> tuple[int, str]:
    """Returns the file's size in bytes, and a stamp that changes with the file (mtime, ETag, …), or "" if there is none."""
    if not is_url(location) or location.startswith("file://"):
        stat = os.stat(location.removeprefix("file://"))
        return stat.st_size, f"mtime:{stat.st_mtime_ns}"
    fs, path = filesystem(location)
    info: dict[str, Any] = fs.info(path)  # type: ignore[attr-defined]
    for key in ("ETag", "etag", "md5Hash", "content_md5", "sha", "blob_id", "mtime", "LastModified", "last_modified"):
        if info.get(key):
            return int(info["size"]), f"{key}:{info[key]}"
    return int(info["size"]), ""


def _mapped_columns(mapping: Mapping, meta: pq.FileMetaData) -> tuple[str, ...]:
    """Returns the source columns that the mapping reads. An empty tuple means all columns."""
    named = {column for _, column in mapping.fields}
    tops = {name for column in named for name in (column, column.partition(".")[0])}
    return tuple(name for name in meta.schema.to_arrow_schema().names if name in tops)


class ParquetInPlace:
    """Converts row groups of registered Parquet files to samples. They are identical to those of an ingested copy."""

    def __init__(self, columns: tuple[str, ...], parts: Sequence[dict[str, Any]]) -> None:
        self._columns = columns
        self._mappings = [
            Mapping(p["kind"], p["form"], tuple((role, name) for role, name in p["fields"])) for p in parts
        ]
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, file: FileInPlace) -> None:
        """Raises DamagedStoreError if the file is gone or has changed since its registration.

        A remote file is not checked again while its footer is cached.
        """
        remote = is_url(file.location)
        if remote and file.location in self._footers:
            return
        try:
            size, stamp = _state(file.location)
        except (OSError, CholineDataError) as error:
            raise DamagedStoreError(
                f"{file.location} can't be found any more. It was registered in place.", remedy=IN_PLACE_REMEDY
            ) from error
        if size != file.bytes or stamp != file.stamp:
            raise DamagedStoreError(
                f"{file.location} has changed since it was registered in place.", remedy=IN_PLACE_REMEDY
            )
        self._footer(file)

    def _footer(self, file: FileInPlace) -> pq.FileMetaData:
        with self._lock:
            footer = self._footers.get(file.location)
            if footer is not None:
                self._footers.move_to_end(file.location)
                return footer
        digest, meta = footer_of(file.location, file.name)
        if digest != file.footer or meta.num_row_groups != len(file.groups):
            raise DamagedStoreError(
                f"{file.location} has changed since it was registered in place.", remedy=IN_PLACE_REMEDY
            )
        with self._lock:
            self._footers[file.location] = meta
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return meta

    def samples(self, file: FileInPlace, group: int, *, extra: bool) -> Iterator[pa.RecordBatch]:
        """Yields the row group's samples. Without `extra`, only the columns that the mapping names are read."""
        meta = self._footer(file)
        mapping = self._mappings[file.part]
        shard = Shard(file.location, file.name, split=file.split, config=file.config)
        row = sum(meta.row_group(i).num_rows for i in range(group))
        done = 0
        named = _mapped_columns(mapping, meta)
        if not extra and "extra" in self._columns and named:
            for batch in self._apply(Parquet(columns=named), shard, meta, group, row, mapping):
                # Without content, a row's id depends on `extra`, which needs all columns.
                if not _has_content(batch):
                    break
                yield batch.drop_columns(["extra"])
                done += batch.num_rows
            else:
                return
        for batch in self._apply(Parquet(), shard, meta, group, row, mapping):
            skip = min(done, batch.num_rows)
            done -= skip
            if skip < batch.num_rows:
                yield (
                    batch.slice(skip)
                    if extra or "extra" not in self._columns
                    else batch.slice(skip).drop_columns(["extra"])
                )

    def _apply(
        self, adapter: Parquet, shard: Shard, meta: pq.FileMetaData, group: int, row: int, mapping: Mapping
    ) -> Iterator[pa.RecordBatch]:
        try:
            for chunk in adapter.row_group(shard, meta, group, row):
                batch = samples_of(self._columns, mapping.kind, shard, forms.apply(mapping, chunk, shard))
                if batch.num_rows:
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise SourceDamagedError(f"{shard.name}: {error}") from error


def _has_content(batch: pa.RecordBatch) -> bool:
    """Whether every row has a text, turns, media or a label."""
    there = [batch[name] for name in one.CONTENT_FIELDS if name in batch.schema.names]
    if any(not column.null_count for column in there):
        return True
    if not there:
        return False
    some = pc.is_valid(there[0])
    for column in there[1:]:
        some = pc.or_(some, pc.is_valid(column))
    return bool(pc.all(some).as_py())


def reader(columns: tuple[str, ...], parts: Sequence[dict[str, Any]]) -> ParquetInPlace:
    """Returns the reader of an in-place revision with these columns and mappings."""
    return ParquetInPlace(columns, parts)
