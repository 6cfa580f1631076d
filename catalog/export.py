"""Exports a dataset to another format: Parquet, WebDataset, JSON Lines, or Parquet with a Croissant descriptor."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.errors import InvalidOptionError, MissingDependencyError
from choline_data.json_values import plain
from choline_data.places.home import Home
from choline_data.store import Entry, Revision, open_revision

FORMATS = ("parquet", "webdataset", "jsonl", "croissant")
ROWS_A_STEP = 4096
SHARD_BYTES = 256 << 20

_SUFFIX = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "video/mp4": "mp4",
}


def _batches(revision: Revision) -> Iterator[pa.RecordBatch]:
    """Yields all samples in source order: the stored columns, and the constants as columns."""
    names = [f.name for f in one.STORED if f.name in revision.schema.names or f.name in revision.constants]
    schema = pa.schema([one.STORED.field(name) for name in names])
    for start in range(0, revision.rows, ROWS_A_STEP):
        for batch in revision.read(start, min(start + ROWS_A_STEP, revision.rows)):
            arrays = [
                batch[name]
                if name in batch.schema.names
                else pa.repeat(pa.scalar(revision.constants[name], schema.field(name).type), batch.num_rows)
                for name in names
            ]
            yield pa.record_batch(arrays, schema=schema)


def export(home: Home, entry: Entry, to: str, out: str) -> dict[str, Any]:
    """Writes the dataset to the folder `out`, which must be empty or missing."""
    if to not in FORMATS:
        raise InvalidOptionError(f"--to {to!r}: no such format.", remedy=f"There are: {', '.join(FORMATS)}.")
    if os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise InvalidOptionError(f"{out} exists already.", remedy="Choose another --out.")
    os.makedirs(out, exist_ok=True)
    revision = open_revision(home, entry.revision)
    write = {"parquet": _parquet, "jsonl": _jsonl, "webdataset": _webdataset, "croissant": _croissant}[to]
    files = write(revision, entry, out)
    return {"name": entry.name, "to": to, "rows": revision.rows, "files": files, "out": out}


def _parquet(revision: Revision, entry: Entry, out: str) -> int:
    import pyarrow.parquet as pq

    number = 0
    writer: pq.ParquetWriter | None = None
    written = 0
    for batch in _batches(revision):
        if writer is None:
            path = os.path.join(out, f"{entry.name}-{number:05d}.parquet")
            writer = pq.ParquetWriter(path, batch.schema, compression="zstd", write_page_checksum=True)
        writer.write_batch(batch)
        written += batch.nbytes
        if written >= SHARD_BYTES:
            writer.close()
            writer, written, number = None, 0, number + 1
    if writer is not None:
        writer.close()
        number += 1
    return number


def _jsonl(revision: Revision, entry: Entry, out: str) -> int:
    with open(os.path.join(out, f"{entry.name}.jsonl"), "wb") as file:
        for batch in _batches(revision):
            for sample in batch.to_pylist():
                file.write(orjson.dumps(plain({k: v for k, v in sample.items() if v is not None})) + b"\n")
    return 1


def _webdataset(revision: Revision, entry: Entry, out: str) -> int:
    try:
        import webdataset as wds
    except ModuleNotFoundError as error:
        raise MissingDependencyError("webdataset", "Writing WebDataset shards") from error
    number = 0
    pattern = os.path.join(out, f"{entry.name}-%06d.tar")
    with wds.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0, encoder=False) as sink:
        for batch in _batches(revision):
            for sample in batch.to_pylist():
                record: dict[str, Any] = {"__key__": f"{number:09d}"}
                media = sample.pop("media", None) or []
                for place, medium in enumerate(media):
                    if medium["data"] is not None:
                        suffix = _SUFFIX.get(medium["mime"] or "", "bin")
                        record[suffix if place == 0 else f"{place}.{suffix}"] = medium["data"]
                if sample.get("text"):
                    record["txt"] = sample["text"].encode()
                labels = sample.get("label") or []
                if labels and labels[0]["name"]:
                    record["cls"] = labels[0]["name"].encode()
                fields = {k: v for k, v in sample.items() if v is not None and k != "text"}
                record["json"] = orjson.dumps(plain(fields))
                sink.write(record)
                number += 1
        return int(sink.shard)


def _croissant(revision: Revision, entry: Entry, out: str) -> int:
    files = _parquet(revision, entry, out)
    names = [f.name for f in one.STORED if f.name in revision.schema.names or f.name in revision.constants]
    objects = []
    for name in sorted(os.listdir(out)):
        digest = hashlib.sha256()
        with open(os.path.join(out, name), "rb") as file:
            while piece := file.read(io.DEFAULT_BUFFER_SIZE * 128):
                digest.update(piece)
        objects.append(
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": digest.hexdigest(),
            }
        )
    descriptor = _descriptor(entry, names, objects)
    with open(os.path.join(out, "croissant.json"), "wb") as file:
        file.write(orjson.dumps(descriptor, option=orjson.OPT_INDENT_2))
    return files + 1


def _descriptor(entry: Entry, names: Sequence[str], objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the Croissant descriptor of exported Parquet files. `objects` describe the files; `names` are their columns."""
    types = {"text": "sc:Text", "time": "sc:DateTime"}
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "recordSet": "cr:recordSet",
            "field": "cr:field",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "source": "cr:source",
            "fileSet": "cr:fileSet",
            "extract": "cr:extract",
            "column": "cr:column",
            "includes": "cr:includes",
            "containedIn": "cr:containedIn",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": entry.name,
        "description": entry.title or f"{entry.name}, {entry.kind}, as normalised by choline-data.",
        "license": entry.license,
        "url": entry.source,
        "version": entry.revision,
        "distribution": [
            *objects,
            {
                "@type": "cr:FileSet",
                "@id": "parquet",
                "name": "parquet",
                "encodingFormat": "application/vnd.apache.parquet",
                "includes": "*.parquet",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"samples/{name}",
                        "name": name,
                        "dataType": types.get(name, "sc:Text"),
                        "source": {"fileSet": {"@id": "parquet"}, "extract": {"column": name}},
                    }
                    for name in names
                ],
            }
        ],
    }
