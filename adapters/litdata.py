"""Reads LitData optimized datasets: a folder with `index.json` and chunks of rows. Each row stores the sizes of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
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
from choline_data.adapters.reading import media
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.packed_rows import beside, cells, count_of, index_of, shard_bytes
from choline_data.adapters.reading.rows import SourceRows
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceNotFoundError

_ARROW_END = b"LDARW01\x00"
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "str": bytes.decode,
    "string": bytes.decode,
    "int": lambda cell: np.frombuffer(cell, "<i8")[0].item(),
    "integer": lambda cell: np.frombuffer(cell, "<i8")[0].item(),
    "float": lambda cell: np.frombuffer(cell, "<f8")[0].item(),
    "bool": lambda cell: np.frombuffer(cell, "?")[0].item(),
    "boolean": lambda cell: np.frombuffer(cell, "?")[0].item(),
    "bytes": bytes,
    "jpeg": lambda cell: {"bytes": cell, "path": None},
    "file": lambda cell: {"bytes": cell, "path": None},
}


@dataclass(frozen=True)
class LitData:
    """Reads the chunks that an `index.json` names. Pickled columns are refused; tensors stay bytes."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each chunk, in the order of the index. `files[0]` of a shard is the index."""
        by_name = {"/".join(parts(f.name)): f for f in files}
        shards = []
        for index in in_order(f for f in files if parts(f.name)[-1] == "index.json"):
            for at, chunk in enumerate(index_of(index)["chunks"]):
                file = by_name.get(beside(index, chunk["filename"]))
                if file is None:
                    raise SourceNotFoundError(
                        f"{index.name} names {chunk['filename']}, which does not exist.", remedy="Fetch it."
                    )
                shards.append(Shard(file.path, file.name, files=(index,), start=at))
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields rows with the columns that the index describes."""
        index = index_of(shard.files[0])
        config, chunk = index["config"], index["chunks"][shard.start]
        formats = config["data_format"]
        names = _names(config.get("data_spec"), len(formats))
        decode = [_decoder(f, n, shard.files[0].name) for f, n in zip(formats, names, strict=True)]
        if config.get("encryption"):
            raise SourceFormatError(f"{shard.files[0].name}: the chunks are encrypted.", remedy="Decrypt them first.")
        data = shard_bytes(shard.path, shard.name)
        if count_of(data) != chunk["chunk_size"]:
            raise SourceDamagedError(
                f"{shard.name} has {count_of(data)} rows, its index says {chunk['chunk_size']}.",
                remedy="Fetch the chunk and its index again.",
            )
        body = 4 + 4 * (count_of(data) + 1)
        if data.endswith(_ARROW_END):
            length = int.from_bytes(data[-len(_ARROW_END) - 4 : -len(_ARROW_END)], "little")
            arrow = data[body : body + length]
            yield from from_row(start, _arrow(arrow, shard.name, count_of(data)))
            return
        pictures = [n for n, f in zip(names, formats, strict=True) if f in ("jpeg", "file")]
        rows = SourceRows(shard.origin, dict.fromkeys(pictures, media.MEDIUM))
        for row, values in cells(data, shard.name, [None] * len(formats), start):
            size = sum(map(len, values))
            if rows.full(size):
                yield from rows.take()
            try:
                rows.add(row, {n: d(c) for n, d, c in zip(names, decode, values, strict=True)}, size)
            except (ValueError, IndexError) as error:
                rows.reject(row, f"a cell is not of its format: {error}")
        yield from rows.take()


ADAPTER = LitData


def _arrow(data: bytes, name: str, count: int) -> Iterator[SourceChunk]:
    """Yields the rows of a chunk that has an Arrow IPC file after its offsets.

    LitData 0.2.7 and later write flat rows in this form.
    """
    row = 0
    try:
        with pa.ipc.open_file(pa.BufferReader(data)) as file:
            for at in range(file.num_record_batches):
                batch = file.get_batch(at)
                batch.validate(full=True)
                for first in range(0, batch.num_rows, BATCH_ROWS):
                    piece = batch.slice(first, BATCH_ROWS)
                    yield chunk_of(piece, row)
                    row += piece.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceDamagedError(f"{name}: its Arrow part is damaged ({error}).", remedy="Fetch it again.") from error
    if row != count:
        raise SourceDamagedError(f"{name} has {row} rows, but its header states {count}.", remedy="Fetch it again.")


def _decoder(kind: str, column: str, index: str) -> Callable[[bytes], Any]:
    if kind in _DECODERS:
        return _DECODERS[kind]
    if "tensor" in kind or "numpy" in kind or kind in ("pil", "tiff", "video"):
        return bytes
    raise SourceFormatError(
        f"{index}: the column {column!r} is of the format {kind!r}"
        + (", which runs code when it is read." if kind == "pickle" else ", which is not known."),
        remedy="Optimize it again with str, int, float, bytes or jpeg.",
    )


def _names(spec: str | None, count: int) -> list[str]:
    """Returns the names of the leaves of a torch pytree spec that is a flat dict. Otherwise `value`, or `value_0`, `value_1`, …"""
    try:
        tree = orjson.loads(spec or "null")[1]
        names = orjson.loads(tree["context"]) if tree["type"] == "builtins.dict" else None
    except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
        names = None
    if isinstance(names, list) and len(names) == count:
        return [str(n) for n in names]
    return ["value"] if count == 1 else [f"value_{at}" for at in range(count)]


def detect(source: Source) -> list[FormatClaim]:
    """Claims each folder whose `index.json` lists chunks and a data format."""
    claims: list[FormatClaim] = []
    for index in source.files:
        if parts(index.name)[-1] != "index.json" or not _is_litdata(content := index_of(index)):
            continue
        wanted = {beside(index, str(c.get("filename"))) for c in content["chunks"]}
        files = [f for f in source.files if "/".join(parts(f.name)) in wanted]
        about = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name) and not claims)
        evidence = f"LitData index of {len(content['chunks'])} chunks"
        claims.append(FormatClaim(LitData(), (index, *files), 1.0, evidence, passed_over=about))
    return claims


def _is_litdata(index: dict[str, Any]) -> bool:
    chunks, config = index.get("chunks"), index.get("config")
    return isinstance(chunks, list) and isinstance(config, dict) and isinstance(config.get("data_format"), list)
