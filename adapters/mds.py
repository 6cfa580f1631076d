"""Reads MosaicML MDS: a folder with `index.json` and shards, raw or compressed. Shards are checked against their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xxhash

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import media
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.packed_rows import beside, cells, count_of, index_of, shard_bytes
from choline_data.adapters.reading.records import checked_loads
from choline_data.adapters.reading.rows import SourceRows
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceNotFoundError

_NUMBERS = {
    **{
        f"{sign}int{bits}": np.dtype(f"<{sign[:1] or 'i'}{bits // 8}") for sign in ("", "u") for bits in (8, 16, 32, 64)
    },
    **{f"float{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "int": np.dtype("<i8"),
    "float": np.dtype("<f8"),
}
_AS_BYTES = ("bytes", "pil", "ndarray")
_MEDIA = ("png", "jpeg", "jpeg_array", "jpegarray")


@dataclass(frozen=True)
class Mds:
    """Reads the shards that an `index.json` names. Pickled columns are refused."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file that the index names, in the index's order. `files[0]` of a shard is the index."""
        by_name = {"/".join(parts(f.name)): f for f in files}
        shards: list[Shard] = []
        for index in in_order(f for f in files if parts(f.name)[-1] == "index.json"):
            for at, entry in enumerate(index_of(index).get("shards", ())):
                file = _file_of(index, entry, by_name)
                shards.append(Shard(file.path, file.name, files=(replace(index),), start=at, size=file.size))
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields rows with the shard's columns."""
        index = shard.files[0]
        entry = index_of(index)["shards"][shard.start]
        names, encodings = entry["column_names"], entry["column_encodings"]
        decode = [_decoder(e, n, index.name) for e, n in zip(encodings, names, strict=True)]
        data = shard_bytes(
            shard.path, shard.name, _codec(entry, shard.name), entry.get("raw_data", {}).get("bytes", -1)
        )
        _check(entry, data, shard.name)
        rows = SourceRows(shard.origin, {n: media.MEDIUM for n, e in zip(names, encodings, strict=True) if e in _MEDIA})
        for row, row_values in cells(data, shard.name, entry["column_sizes"], start):
            size = sum(map(len, row_values))
            if rows.full(size):
                yield from rows.take()
            try:
                values = {n: d(cell) for n, d, cell in zip(names, decode, row_values, strict=True)}
            except (ValueError, IndexError) as error:
                rows.reject(row, f"a cell is not of its encoding: {error}")
                continue
            rows.add(row, values, size)
        yield from rows.take()


ADAPTER = Mds


def _file_of(index: SourceFile, entry: dict[str, Any], by_name: dict[str, SourceFile]) -> SourceFile:
    options = [p["basename"] for p in (entry.get("raw_data"), entry.get("zip_data")) if p]
    for name in options:
        if file := by_name.get(beside(index, name)):
            return file
    raise SourceNotFoundError(
        f"{index.name} names {' and '.join(options) or 'a shard without a name'}, and the folder has no such file.",
        remedy="Fetch the missing shard.",
    )


_CODECS = {"br": "brotli", "snappy": "snappy"}  # the other codecs of MDS have magic bytes
_HASHES = frozenset(
    {"sha1", "sha224", "sha256", "sha384", "sha512", "md5", "xxh32", "xxh64", "xxh128", "xxh3_64", "xxh3_128"}
)


def _codec(entry: dict[str, Any], name: str) -> str:
    """Returns the codec of a shard without magic bytes, if the file is the compressed one."""
    packed = (entry.get("zip_data") or {}).get("basename") or ""
    stated = str(entry.get("compression") or "").partition(":")[0]
    return _CODECS.get(stated, "") if packed and "/".join(parts(name)).endswith(packed) else ""


def _check(entry: dict[str, Any], data: bytes, name: str) -> None:
    stated = entry.get("raw_data", {})
    for kind, want in stated.get("hashes", {}).items():
        make: Callable[[bytes], Any] | None = getattr(xxhash, kind, None) or getattr(hashlib, kind, None)
        if kind in _HASHES and make and make(data).hexdigest() != want:
            raise SourceDamagedError(
                f"{name}: its {kind} differs from the one that its index states.", remedy="Fetch it again."
            )
    if count_of(data) != entry.get("samples") or len(data) != stated.get("bytes", len(data)):
        raise SourceDamagedError(
            f"{name}: {count_of(data)} rows in {len(data)} bytes, its index says {entry.get('samples')} in "
            f"{stated.get('bytes')}.",
            remedy="Fetch the shard and its index again.",
        )


def _decoder(encoding: str, column: str, index: str) -> Callable[[bytes], Any]:
    if encoding in _NUMBERS:
        kind = _NUMBERS[encoding]
        return lambda cell: np.frombuffer(cell, kind)[0].item()
    if encoding == "str" or encoding.startswith("str_"):
        return lambda cell: cell.decode()
    if encoding == "json":
        return checked_loads
    if encoding in _MEDIA:
        return lambda cell: {"bytes": cell, "path": None}
    if encoding.split(":")[0] in _AS_BYTES:
        return lambda cell: cell
    raise SourceFormatError(
        f"{index}: the column {column!r} is encoded as {encoding!r}"
        + (", which runs code when it is read." if encoding == "pkl" else ", which is not known."),
        remedy="Write it again with encodings such as str, int, json, bytes, png or jpeg.",
    )


def detect(source: Source) -> list[FormatClaim]:
    """Claims each folder whose `index.json` lists MDS shards. Each folder becomes a config, for example a raw and a
    zstd copy of the same data.
    """
    claims = []
    for index in source.files:
        if parts(index.name)[-1] != "index.json" or not _is_mds(content := index_of(index)):
            continue
        by_name = {"/".join(parts(f.name)): f for f in source.files}
        files = [_file_of(index, entry, by_name) for entry in content["shards"]]
        config = parts(index.name)[-2] if len(parts(index.name)) > 1 else ""
        rows = sum(int(entry.get("samples", 0)) for entry in content["shards"])
        kind = "image" if set(_MEDIA) & set(content["shards"][0]["column_encodings"]) else ""
        claims.append(FormatClaim(Mds(), (index, *files), 1.0, f"MDS index of {rows} rows", kind=kind, config=config))
    if claims:
        about = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
        claims[0] = replace(claims[0], passed_over=about)
    return claims


def _is_mds(index: dict[str, Any]) -> bool:
    shards = index.get("shards")
    return (
        isinstance(shards, list)
        and bool(shards)
        and all(isinstance(s, dict) and s.get("format") == "mds" for s in shards)
    )
