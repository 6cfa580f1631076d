"""The manifest of an in-place revision: its files outside the home, and how they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.store import sealed as sealing
from choline_data.store.object_names import IN_PLACE, manifest_name

_FILES = pa.schema(
    [
        pa.field("location", pa.string()),
        pa.field("name", pa.string()),
        pa.field("part", pa.int32()),
        pa.field("split", pa.string()),
        pa.field("config", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("stamp", pa.string()),
        pa.field("footer", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("groups", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class FileInPlace:
    """A file of the revision: its state at registration, and the number of samples in each of its groups."""

    location: str
    name: str
    part: int
    split: str
    config: str
    bytes: int
    stamp: str  # changes with the file: its modification time, or its etag in an object store
    footer: str
    rows: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class ManifestInPlace:
    """The definition of an in-place revision: its files, how they are read, and the values common to all rows."""

    files: tuple[FileInPlace, ...]
    columns: tuple[str, ...]
    block_rows: int
    constants: dict[str, str]
    reader: str
    parts: tuple[dict[str, Any], ...]  # the mapping of each part, for the reader
    about: dict[str, Any]  # how the revision was made; not part of the digest

    def _head(self) -> dict[str, Any]:
        return {
            "schema": one.VERSION,
            "columns": list(self.columns),
            "block_rows": self.block_rows,
            "constants": self.constants,
            "reader": self.reader,
            "parts": list(self.parts),
        }

    def encode(self) -> bytes:
        """Returns the manifest as an Arrow IPC file."""
        table = pa.Table.from_pylist([vars(file) for file in self.files], schema=_FILES)

        def encode(stated: str) -> bytes:
            head = orjson.dumps({sealing.KEY: stated, **self._head(), "about": self.about})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, _FILES.with_metadata({IN_PLACE: head})) as writer:
                writer.write_table(table)
            return bytes(sink.getvalue())

        return sealing.sealed(manifest_name(self.revision), encode)

    def with_about(self, about: dict[str, Any]) -> ManifestInPlace:
        """Returns the same manifest with another `about`, the description of how the revision was made."""
        return replace(self, about=about)

    @property
    def rows(self) -> int:
        """The number of samples in the revision."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """The total size of its files in bytes."""
        return sum(file.bytes for file in self.files)

    @property
    def revision(self) -> str:
        """The digest of the files' locations, their state at registration, and how they are read."""
        return _digest(self._head(), [vars(file) for file in self.files])


def _digest(head: dict[str, Any], files: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
    for file in files:
        digest.update(orjson.dumps(file, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def digest_of(table: pa.Table) -> str:
    """Returns the revision of a manifest without a seal, computed from the table."""
    if not table.schema.equals(_FILES):
        raise ValueError("the columns are not those of a manifest")
    head = orjson.loads((table.schema.metadata or {})[IN_PLACE])
    head = {key: head[key] for key in ("schema", "columns", "block_rows", "constants", "reader", "parts")}
    return _digest(head, table.to_pylist())
