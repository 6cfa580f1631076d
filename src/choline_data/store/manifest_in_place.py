"""The manifest of a revision that stays where it is: its files, and how they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.store import sealed as sealing
from choline_data.store.object_names import manifest_name

HEAD = b"choline_data.in_place"


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
    """A file of the revision as it was when it was registered, and the samples of each of its groups."""

    location: str
    name: str
    part: int
    split: str
    config: str
    bytes: int
    stamp: str  # what changes when the file does: the time of its last change, or the store's etag
    footer: str
    rows: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class ManifestInPlace:
    """What an in-place revision is: its files, how they are read, and the values that hold for every row."""

    files: tuple[FileInPlace, ...]
    columns: tuple[str, ...]
    block_rows: int
    constants: dict[str, str]
    reader: str
    parts: tuple[dict[str, Any], ...]  # the mapping of each part, for the reader
    about: dict[str, Any]  # how it came to be; no part of the digest

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
        """The manifest as an Arrow IPC file."""
        table = pa.Table.from_pylist([vars(file) for file in self.files], schema=_FILES)

        def encode(stated: str) -> bytes:
            head = orjson.dumps({sealing.KEY: stated, **self._head(), "about": self.about})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, _FILES.with_metadata({HEAD: head})) as writer:
                writer.write_table(table)
            return bytes(sink.getvalue())

        return sealing.sealed(manifest_name(self.revision), encode)

    def with_about(self, about: dict[str, Any]) -> ManifestInPlace:
        """The same manifest with other words about how it came to be."""
        return replace(self, about=about)

    @property
    def rows(self) -> int:
        """Samples in the revision."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.bytes for file in self.files)

    @property
    def revision(self) -> str:
        """The digest over where the files are, what they were like, and how they are read."""
        return _digest(self._head(), [vars(file) for file in self.files])


def _digest(head: dict[str, Any], files: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
    for file in files:
        digest.update(orjson.dumps(file, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def digest_of(table: pa.Table) -> str:
    """The revision that a manifest without a seal has."""
    if not table.schema.equals(_FILES):
        raise ValueError("not the columns of a manifest")
    head = orjson.loads((table.schema.metadata or {})[HEAD])
    head = {key: head[key] for key in ("schema", "columns", "block_rows", "constants", "reader", "parts")}
    return _digest(head, table.to_pylist())
