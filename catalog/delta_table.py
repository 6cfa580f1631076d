"""Finds the current files of a Delta Lake table from its log. Files of older versions hold deleted rows and are left out.

The log is a folder `_delta_log` of JSON commits and Parquet checkpoints. A table that needs more than its list of files, such as
one with deletion vectors or mapped columns, is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters.base import Source
from choline_data.adapters.reading.batches import partitions
from choline_data.errors import SourceDamagedError, SourceFormatError, one_line

LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json$")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$")
_READABLE = frozenset(
    {"timestampNtz", "vacuumProtocolCheck", "deletionVectors", "columnMapping", "appendOnly", "invariants"}
)
_WITH_LIBRARY = "Write its current rows as Parquet: deltalake.DeltaTable(PATH).to_pyarrow_table(), then add that file."


@dataclass
class _Table:
    """The state of a table after some of its actions: the values of partition columns by the path of each current file."""

    name: str
    files: dict[str, Mapping[str, str | None]] = field(default_factory=dict)
    with_vectors: set[str] = field(default_factory=set)
    is_described: bool = False

    def act(self, action: Mapping[str, Any]) -> None:
        """Applies one action of the log. Raises SourceFormatError for a feature that changes what the files mean."""
        if added := action.get("add"):
            (self.with_vectors.add if added.get("deletionVector") else self.with_vectors.discard)(added["path"])
            self.files[added["path"]] = dict(added.get("partitionValues") or {})
        if removed := action.get("remove"):
            self.files.pop(removed["path"], None)
        if protocol := action.get("protocol"):
            odd = sorted(set(protocol.get("readerFeatures") or ()) - _READABLE)
            if odd:
                raise self.refused(f"it uses {', '.join(map(str, odd[:4]))}")
        if about := action.get("metaData"):
            self.is_described = True
            settings = dict(about.get("configuration") or {})
            if settings.get("delta.columnMapping.mode", "none") != "none":
                raise self.refused("its columns have other names in its files")

    def refused(self, why: str) -> SourceFormatError:
        """Returns the error for a table that uses a feature which this module cannot read."""
        return SourceFormatError(f"{self.name} is a Delta Lake table that is not read: {why}.", remedy=_WITH_LIBRARY)


def with_current_files(source: Source) -> Source:
    """Returns the source with only the current files of each Delta Lake table in it. Other sources are returned as they are."""
    roots = sorted({name.rpartition(LOG)[0] for name, _ in source.left_out if name.rstrip("/").endswith(LOG)})
    if not roots or not os.path.isdir(source.location):
        return source
    kept, removed = list(source.files), list(source.left_out)
    for root in roots:
        table = _replay(Path(source.location) / root / LOG, root.rstrip("/") or source.location)
        current = {root + unquote(path): values for path, values in table.files.items()}
        there = {file.name for file in kept}
        _check(table, current, there)
        removed += [
            (f.name, "not in the current version of the Delta Lake table")
            for f in kept
            if _is_old(f.name, root, current)
        ]
        kept = [file for file in kept if not _is_old(file.name, root, current)]
    return replace(source, files=tuple(kept), left_out=tuple(removed))


def _is_old(name: str, root: str, current: Mapping[str, object]) -> bool:
    return name.startswith(root) and name not in current


def _check(table: _Table, current: Mapping[str, Mapping[str, str | None]], there: set[str]) -> None:
    if not table.is_described:
        raise table.refused("its log does not describe it")
    if table.with_vectors & set(table.files):
        raise table.refused("it has deletion vectors")
    for name, values in current.items():
        if name not in there:
            raise SourceDamagedError(
                f"The log of {table.name} names {one_line(name, 120)}, which does not exist.",
                remedy="Fetch the whole table again.",
            )
        found = partitions(name)
        if any(found.get(column, "") != value for column, value in values.items()):
            raise table.refused(f"the values of its partition columns are not in the path of {one_line(name, 80)}")


def _replay(log: Path, name: str) -> _Table:
    """Reads the newest complete checkpoint of a log, and the commits after it."""
    table = _Table(name)
    names = sorted(entry.name for entry in log.iterdir())
    commits = {int(match[1]): found for found in names if (match := _COMMIT.match(found))}
    version, checkpoint = _checkpoint(names)
    after = sorted(number for number in commits if number > version)
    if after != list(range(version + 1, version + 1 + len(after))) or not (after or checkpoint):
        raise SourceDamagedError(
            f"The log of {name} lacks the commits after version {version}.", remedy="Fetch the whole table again."
        )
    try:
        for part in checkpoint:
            for action in _of_parquet(log / part):
                table.act(action)
        for number in after:
            actions = [orjson.loads(line) for line in (log / commits[number]).read_bytes().splitlines() if line.strip()]
            # A file that one commit removes and adds is current, whatever their order in the commit.
            for action in sorted(actions, key=lambda action: "add" in action):
                table.act(action)
    except (
        orjson.JSONDecodeError,
        pa.ArrowException,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        OSError,
    ) as error:
        raise SourceDamagedError(
            f"The log of the Delta Lake table {name} is damaged: {one_line(error, 120)}.",
            remedy="Fetch the table again.",
        ) from error
    return table


def _checkpoint(names: list[str]) -> tuple[int, list[str]]:
    """Returns the version and the files of the newest checkpoint that has all its parts; (-1, []) if there is none."""
    found: dict[tuple[int, int], list[str]] = {}
    for name in names:
        if match := _CHECKPOINT.match(name):
            found.setdefault((int(match[1]), int(match[3] or 1)), []).append(name)
    whole = [(version, files) for (version, parts), files in found.items() if len(files) == parts]
    return max(whole, default=(-1, []))


def _of_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(path) as file:
        columns = [name for name in ("add", "protocol", "metaData") if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
