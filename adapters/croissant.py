"""Reads Croissant 1.0 and 1.1. A JSON-LD descriptor names files and record sets; each record set is a separate claim.

The columns are named by the fields, without the record set's name. Joins follow `references`. A row without a partner is kept,
with nulls. Regular expressions run in a linear-time engine. Archives are read in place.
"""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import orjson
import pyarrow as pa

from choline_data.adapters.base import BATCH_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile, from_row
from choline_data.adapters.reading import text_columns
from choline_data.adapters.reading.croissant_model import (
    CroissantField,
    Extract,
    fields_of,
    id_of,
    json_path,
    listed,
    plain,
    short,
    value_of,
)
from choline_data.adapters.reading.documents import chunks_of, document, json_files
from choline_data.adapters.reading.io import open_raw
from choline_data.adapters.reading.splits import described
from choline_data.errors import (
    InvalidOptionError,
    SourceDamagedError,
    SourceFormatError,
    SourceNotFoundError,
    SourceTooLargeError,
)
from choline_data.places.locations import redacted

MAX_FILE_BYTES = 512 << 20
_ROWS = 1024
_MEDIA = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
_HINT = r"mlcommons\.org/croissant|\"(?:cr:)?recordSet\"\s*:"
_NO_FILE = SourceFile("", "")
Row = dict[Extract, Any]


@dataclass(frozen=True)
class Croissant:
    """Reads one record set of a descriptor."""

    descriptor: SourceFile = _NO_FILE
    record_set: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard, because joins need all files."""
        mine = self.descriptor
        return [Shard(mine.path, mine.name, member=self.record_set, files=tuple(files), size=mine.size)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the record set's rows from `start` on."""
        model = _Model(plain(document(shard.path, shard.name, limit=64 << 20)), shard.name, shard.files)
        return from_row(start, _chunks(model.rows(self.record_set), shard.origin))


ADAPTER = Croissant


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for each record set of each descriptor. Other files in a descriptor's folder are skipped."""
    from choline_data.licenses import spdx_of_stated

    source = described(source)
    descriptors = [(f, plain(v)) for f, v in json_files(source, _HINT) if _is_descriptor(v)]
    wanted = source.options.get("config")
    claims: list[FormatClaim] = []
    over: dict[str, str] = {}
    known: list[str] = []
    for file, data in descriptors:
        model = _Model(data, file.name, source.files)
        files = (file, *(f for f in source.files if f.name in model.named()))
        folder = file.name.rpartition("/")[0]
        for other in source.files:
            if other.name.startswith(folder + "/" if folder else ""):
                over.setdefault(other.name, f"not named by {file.name}")
        for name in model.records:
            config = name if len(descriptors) == 1 else f"{_stem(file.name)}/{name}"
            known.append(config)
            if wanted and wanted not in (config, name):
                continue
            claims.append(
                FormatClaim(
                    Croissant(file, name),
                    files,
                    1.0,
                    f"record set {name!r} of {file.name}",
                    config=config,
                    license=spdx_of_stated(data.get("license")),
                )
            )
    if descriptors and not claims:
        if wanted:
            raise InvalidOptionError(f"No record set {wanted!r}.", remedy=f"There are: {', '.join(known)}.")
        raise SourceFormatError(
            f"{descriptors[0][0].name} names no record set.", remedy="Add its data files themselves."
        )
    if claims:
        mine = {f.name for c in claims for f in c.files}
        passed = tuple((name, why) for name, why in over.items() if name not in mine)
        claims[0] = replace(claims[0], passed_over=passed)
    return claims


def _is_descriptor(value: Any) -> bool:
    if not isinstance(value, dict) or "@context" not in value:
        return False
    return "croissant" in str(value.get("conformsTo", value.get("dct:conformsTo", ""))) or "recordSet" in plain(value)


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    plain_name = path.stem in ("metadata", "croissant") and str(path.parent) != "."
    return str(path.parent) if plain_name else str(path.with_suffix(""))


class _Model:
    """A descriptor with the files that it may read."""

    def __init__(self, data: Any, name: str, files: Sequence[SourceFile]) -> None:
        self.name = name
        self.folder = PurePosixPath(name).parent
        self.files = {f.name: f for f in files}
        self.nodes = {id_of(d): d for d in listed(data.get("distribution")) if isinstance(d, dict)}
        self.records = {id_of(r): r for r in listed(data.get("recordSet")) if isinstance(r, dict)}

    def named(self) -> set[str]:
        """Returns the names of the source's files that the distribution names."""
        names: set[str] = set()
        for node in self.nodes.values():
            if node.get("includes") and not node.get("containedIn"):
                names |= {f.name for f in self._included(node)}
            elif node.get("contentUrl") and not node.get("containedIn"):
                names.add(str(self.folder / str(node["contentUrl"])))
        return names & self.files.keys()

    def rows(self, record_set: str, above: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """Yields the rows of a record set, each as a dict of its fields."""
        if record_set in above or record_set not in self.records:
            raise SourceFormatError(
                f"{self.name}: record set {record_set!r} does not exist or refers to itself.",
                remedy="Correct the descriptor.",
            )
        record = self.records[record_set]
        fields = fields_of(record, self.records, self.name)
        if record.get("data") is not None:
            yield from self._inline(record["data"], record_set)
            return
        if not fields or not any(f.node for f in fields):
            return
        joins = {f.references[0]: (f, f.references[1]) for f in fields if f.references and f.references[0] != f.node}
        base = next((f.node for f in fields if f.node and f.node not in joins), fields[0].node)
        needed: defaultdict[str, list[Extract]] = defaultdict(list)
        for f in fields:
            needed[f.node].append(f.extract)
        others = [node for node in needed if node and node != base]
        indexes: dict[str, dict[Any, list[Row]]] = {}
        for node in others:
            if node not in joins:
                raise SourceFormatError(
                    f"{self.name}: {record_set!r} reads {node!r}, but no field has `references` that join it to the others.",
                    remedy="Give one of its fields a reference.",
                )
            key = joins[node][1]
            index: defaultdict[Any, list[Row]] = defaultdict(list)
            for row in self._node(node, [key, *needed[node]], (*above, record_set)):
                index[str(row.get(key))].append(row)
            indexes[node] = index
        for row in self._node(base, needed[base], (*above, record_set)):
            partners = []
            for node in others:
                via = joins[node][0]
                partners.append(indexes[node].get(str(value_of(row.get(via.extract), via, self.name))) or [{}])
            for chosen in itertools.product(*partners):
                yield self._row(fields, {base: row, **dict(zip(others, chosen, strict=True))})

    def _row(self, fields: list[CroissantField], rows: dict[str, Row]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for f in fields:
            place = out
            for step in f.path[:-1]:
                place = place.setdefault(step, {})
            row = rows.get(f.node, {})
            value = value_of(row.get(f.extract), f, self.name)
            if isinstance(value, bytes):
                value = {"bytes": value, "path": row.get(("fileProperty", "fullpath"))}
            place[f.path[-1]] = value
        return out

    def _inline(self, data: Any, record_set: str) -> Iterator[dict[str, Any]]:
        rows = orjson.loads(data) if isinstance(data, str) else data
        for row in listed(rows):
            yield ({short(str(k), record_set): v for k, v in row.items()} if isinstance(row, dict) else {"value": row})

    def _node(self, node: str, extracts: list[Extract], above: tuple[str, ...]) -> Iterator[Row]:
        """Yields the rows of a file, a file set or another record set. A row has a key for each value that the fields
        extract.
        """
        if node in self.records:
            for row in self.rows(node, above):
                yield {("field", k): v["bytes"] if isinstance(v, dict) and "bytes" in v else v for k, v in row.items()}
            return
        if node not in self.nodes:
            raise SourceFormatError(
                f"{self.name}: {redacted(str(node))!r} is not in the distribution.", remedy="Correct the descriptor."
            )
        for file in self._files(self.nodes[node]):
            yield from self._file_rows(file, extracts)

    def _files(self, node: dict[str, Any]) -> list[tuple[SourceFile, str]]:
        """Returns the files of a node, each with its path within the archive or the descriptor's folder."""
        within = [id_of(c) for c in listed(node.get("containedIn"))]
        archives = [pair for c in within for pair in self._files(self.nodes.get(c, {}))]
        if within:
            from choline_data.adapters.reading.members import listing
            from choline_data.adapters.reading.tar_stream import unsafe_name

            # A name that leads out of the archive is harmless here, because members are read in place and not extracted.
            members = [
                (m.file, path)
                for a, _ in archives
                for m in listing(a)
                if (path := m.file.name.rsplit("!/", 1)[-1]) and (not m.reason or unsafe_name(path))
            ]
            if node.get("includes"):
                chosen = [p for p in members if self._includes(node, p[1])]
            else:
                chosen = [p for p in members if p[1] == node.get("contentUrl")]
            if not chosen:
                raise SourceNotFoundError(
                    f"{self.name}: {id_of(node)!r} is in none of its archives.",
                    remedy="Fetch the archives again.",
                )
            return sorted(chosen, key=lambda p: p[1]) if node.get("includes") else chosen
        if node.get("includes"):
            return [(f, self._relative(f.name)) for f in self._included(node)]
        url = str(node.get("contentUrl") or "")
        place = self.files.get(str(self.folder / url)) if url else None
        if place is None:
            raise SourceNotFoundError(
                f"{self.name}: {redacted(url) or id_of(node)} does not exist.",
                remedy="Download it to the path that the descriptor states, and add the folder.",
            )
        self._verify(place, str(node.get("sha256") or ""))
        return [(place, url)]

    def _relative(self, name: str) -> str:
        return name if str(self.folder) == "." else name.removeprefix(f"{self.folder}/")

    def _included(self, node: dict[str, Any]) -> list[SourceFile]:
        prefix = "" if str(self.folder) == "." else f"{self.folder}/"
        return sorted(
            (
                f
                for f in self.files.values()
                if f.name.startswith(prefix) and self._includes(node, self._relative(f.name))
            ),
            key=lambda f: f.name,
        )

    @staticmethod
    def _includes(node: dict[str, Any], name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, str(p)) for p in listed(node.get("includes"))) and not any(
            fnmatch.fnmatchcase(name, str(p)) for p in listed(node.get("excludes"))
        )

    def _verify(self, file: SourceFile, sha256: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            return
        digest = hashlib.sha256()
        with open_raw(file.path) as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
            if digest.hexdigest() != sha256:
                raise SourceDamagedError(
                    f"{file.name} does not have the SHA-256 that {self.name} states.",
                    remedy="Fetch the file again.",
                )

    def _file_rows(self, found: tuple[SourceFile, str], extracts: list[Extract]) -> Iterator[Row]:
        file, path = found
        name = PurePosixPath(path).name
        same: Row = {
            ("fileProperty", "filename"): name,
            ("fileProperty", "fullpath"): path,
            ("fileProperty", "filepath"): path,
        }
        kinds = {kind for kind, _ in extracts}
        properties = {what for kind, what in extracts if kind == "fileProperty"}
        if "column" in kinds:
            for row in _table(file, self._bytes(file)):
                yield {**same, **{("column", k): v for k, v in row.items()}}
        elif "jsonPath" in kinds:
            value = _json(self._bytes(file), file.name)
            paths = list(dict.fromkeys(e for e in extracts if e[0] == "jsonPath"))
            columns = [json_path(value, what, self.name) for _, what in paths]
            if len({len(c) for c in columns}) > 1:
                raise SourceDamagedError(
                    f"{file.name}: its JSONPaths find different numbers of values.",
                    remedy="Correct the file or the descriptor.",
                )
            for values in zip(*columns, strict=True):
                yield {**same, **dict(zip(paths, values, strict=True))}
        elif properties & {"lines", "lineNumbers"}:
            text = self._bytes(file).decode("utf-8", "replace")
            for number, line in enumerate(text.split("\n") if not text.endswith("\n") else text[:-1].split("\n")):
                yield {
                    **same,
                    ("fileProperty", "lines"): line.rstrip("\r"),
                    ("fileProperty", "lineNumbers"): number,
                }
        else:
            content = self._bytes(file) if "content" in properties else None
            yield {**same, ("fileProperty", "content"): content}

    @staticmethod
    def _bytes(file: SourceFile) -> bytes:
        if "!/" in file.path:
            from choline_data.adapters.reading.members import contents

            data = next(data for _, data in contents([file], MAX_FILE_BYTES))
        else:
            with open_raw(file.path) as opened:
                data = opened.read(MAX_FILE_BYTES + 1)
        if data is None or len(data) > MAX_FILE_BYTES:
            raise SourceTooLargeError(f"{file.name} is above {MAX_FILE_BYTES >> 20} MiB.", remedy="Add it by itself.")
        return data


def _table(file: SourceFile, data: bytes) -> Iterator[dict[str, Any]]:
    name = file.name.lower()
    if data.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(pa.BufferReader(data)) as parquet:
                for batch in parquet.iter_batches(_ROWS):
                    batch.validate(full=True)
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise SourceDamagedError(f"{file.name} can't be read as Parquet.", remedy="Fetch it again.") from error
    elif name.endswith((".jsonl", ".ndjson")):
        for line in data.splitlines():
            if line.strip():
                yield _json(line, file.name)
    elif name.endswith(".json"):
        yield from listed(_json(data, file.name))
    else:
        table = text_columns.Table(delimiter="\t" if name.endswith(".tsv") else ",", missing=())
        for chunk in text_columns.chunks(table, iter([data]), file.name):
            if chunk.rejects:
                worst = chunk.rejects[0]
                raise SourceDamagedError(f"{file.name}: row {worst.row}: {worst.reason}.", remedy="Correct the file.")
            yield from chunk.batch.to_pylist()


def _json(data: bytes, name: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SourceDamagedError(f"{name}: not JSON ({error}).", remedy="Fetch the file again.") from error


def _chunks(rows: Iterator[dict[str, Any]], origin: str) -> Iterator[SourceChunk]:
    """Yields rows as chunks. Media become columns of struct<bytes, path>."""
    import numpy as np

    first, part, size = 0, list[dict[str, Any]](), 0

    def flush() -> Iterator[SourceChunk]:
        media = list(dict.fromkeys(k for row in part for k, v in row.items() if _is_media(v)))
        others = [{k: v for k, v in row.items() if k not in media} for row in part]
        if not any(others):
            batch = pa.RecordBatch.from_arrays([pa.array([r.get(m) for r in part], _MEDIA) for m in media], names=media)
            yield SourceChunk(batch, np.arange(first, first + len(part), dtype=np.int64))
            return
        for chunk in chunks_of(others, origin):
            batch = chunk.batch
            for m in media:
                batch = batch.append_column(m, pa.array([part[i].get(m) for i in chunk.rows], _MEDIA))
            yield SourceChunk(batch, chunk.rows + first, chunk.rejects)

    for row in rows:
        part.append(row)
        size += sum(len(v["bytes"]) if _is_media(v) else 64 for v in row.values())
        if len(part) >= _ROWS or size >= BATCH_BYTES:
            yield from flush()
            first, part, size = first + len(part), [], 0
    if part:
        yield from flush()


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("bytes"), bytes)
