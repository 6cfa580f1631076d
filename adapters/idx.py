"""Reads IDX (MNIST and similar): a file of images and a file of labels, row by row. Pixels become lossless PNG."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io, media
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.png import png
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.reading.tar_stream import PieceStream
from choline_data.errors import SourceDamagedError, SourceFormatError

_NAME = re.compile(r"(?P<stem>.*?)(?P<what>images|labels)[-._]idx[13][-._]ubyte", re.IGNORECASE)
MAX_LABELS = 100_000_000


@dataclass(frozen=True)
class Idx:
    """Reads one image for each row, with its label if there is a file of labels."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file of images, with its file of labels if there is one."""
        labels = {_stem(f.name): f for f in files if _what(f.name) == "labels"}
        shards = []
        for file in in_order(f for f in files if _what(f.name) == "images"):
            beside = labels.get(_stem(file.name))
            shards.append(Shard(file.path, file.name, files=(beside,) if beside else (), size=file.size))
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields rows with the image as PNG, and with the label as a number in text."""
        stream = PieceStream(io.pieces(shard.path, shard.name))
        count, height, width = _header(stream, shard.name, 3)
        if height <= 0 or width <= 0 or height * width > media.MAX_PIXELS:
            raise SourceFormatError(
                f"{shard.name}: its header states pictures of {width} x {height}.",
                remedy="Fetch it again, or leave it out.",
            )
        labels = _labels(shard.files[0], count) if shard.files else None
        rows = SourceRows(shard.origin, {"image": media.MEDIUM})
        for number in range(count):
            pixels = stream.read(height * width)
            if len(pixels) < height * width:
                yield from rows.take()
                raise SourceDamagedError(
                    f"{shard.name}: {number} of {count} pictures are there.", remedy="Fetch it again."
                )
            if number < start:
                continue
            if rows.full(len(pixels)):
                yield from rows.take()
            values: dict[str, object] = {"image": {"bytes": png(pixels, width, height), "path": f"{number}.png"}}
            if labels is not None:
                values["label"] = str(labels[number])
            rows.add(number, values, len(pixels))
        yield from rows.take()


ADAPTER = Idx


def _header(stream: PieceStream, name: str, dimensions: int) -> tuple[int, ...]:
    head = stream.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 8, dimensions]):
        raise SourceFormatError(
            f"{name} is no IDX file of unsigned bytes in {dimensions} dimension(s).", remedy="Fetch it again."
        )
    return struct.unpack(f">{dimensions}I", head[4:])


def _labels(file: SourceFile, count: int) -> bytes:
    stream = PieceStream(io.pieces(file.path, file.name))
    (stated,) = _header(stream, file.name, 1)
    labels = stream.read(min(stated, MAX_LABELS))
    if stated != count or len(labels) != count:
        raise SourceDamagedError(
            f"{file.name} has {len(labels)} labels for {count} pictures.", remedy="Fetch both files again."
        )
    return labels


def _what(name: str) -> str:
    match = _NAME.search(parts(name)[-1])
    return match["what"].lower() if match else ""


def _stem(name: str) -> str:
    match = _NAME.search(name)
    return match["stem"] if match else name


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of images and labels by their names."""
    idx_files = [f for f in source.files if _what(f.name)]
    if not any(_what(f.name) == "images" for f in idx_files):
        return []
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    return [FormatClaim(Idx(), tuple(idx_files), 1.0, f"{len(idx_files)} IDX files", kind="image", passed_over=passed)]
