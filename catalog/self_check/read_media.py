"""Reads a few rows of media for the self-check: folders of media, WebDataset and IDX."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, Pixels, Reader, SourceRow, ends


def media(column: str) -> Reader:
    def read(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
        from choline_data.adapters.reading.media import column_for

        media_files = [file for file in shard.files if column_for(file.name) == column]
        for at in ends(len(media_files), 2):
            data, whole = files.head(media_files[at].path)
            if whole:
                yield SourceRow(at, at, {column: data}, named=False)

    return read


def idx(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with files.opened(shard.path) as raw:
        _, count, height, width = (int.from_bytes(raw.read(4), "big") for _ in range(4))
        for at in range(min(ROWS, count)):
            yield SourceRow(at, at, {"image": Pixels(width, height, raw.read(width * height))}, named=False)


def webdataset(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with files.opened(shard.path) as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
        rows: list[tuple[str, dict[str, Any]]] = []
        for member in archive:
            name = member.name.removeprefix("./")
            key, dot, suffix = name.rpartition("/")[2].partition(".")
            key = name[: len(name) - len(suffix) - len(dot)]
            if not member.isfile() or not dot or name.rpartition("/")[2].startswith("."):
                return
            if not rows or rows[-1][0] != key or suffix in rows[-1][1]:
                if len(rows) == ROWS:
                    break
                rows.append((key, {}))
            data = archive.extractfile(member)
            rows[-1][1][suffix] = data.read() if data is not None else b""
    for at, (_, members) in enumerate(rows):
        yield SourceRow(at, at, {suffix: _as_text(suffix, data) for suffix, data in members.items()}, named=False)


def _as_text(suffix: str, data: bytes) -> Any:
    if suffix == "json":
        return json.loads(data)
    return data.decode().strip() if suffix in ("txt", "cls", "text", "caption") else data
