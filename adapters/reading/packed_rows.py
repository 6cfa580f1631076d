"""The common structure of MDS and LitData shards: a row count, offsets, and rows of cells with sizes."""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import io, members
from choline_data.adapters.reading.names import parts
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

MAX_SHARD_BYTES = 1 << 30
MAX_INDEX_BYTES = 256 << 20


def index_of(file: SourceFile) -> dict[str, Any]:
    """Returns the `index.json` of a folder. Empty if it is not a JSON object."""
    for _, data in members.contents([file], MAX_INDEX_BYTES):
        try:
            index = orjson.loads(data or b"")
        except orjson.JSONDecodeError:
            return {}
        return index if isinstance(index, dict) else {}
    return {}


def beside(index: SourceFile, name: str) -> str:
    """Returns the name, within the source, of a file that an index names.

    Raises SourceFormatError if the name leads out of the index's folder.
    """
    if not name or name.startswith("/") or ".." in name.split("/") or "\x00" in name:
        raise SourceFormatError(f"{index.name} names {name!r}, outside its folder.", remedy="Correct the index.")
    return posixpath.join("/".join(parts(index.name)[:-1]), name)


def shard_bytes(path: str, name: str, codec: str = "", size: int = -1) -> bytes:
    """Returns the whole decompressed shard. Its offsets may point to any part of it. Raises SourceTooLargeError above
    MAX_SHARD_BYTES.

    `codec` is "brotli" or "snappy", which have no magic bytes; then `size` is the size of the decompressed shard.
    """
    packed = _packed_bytes(path, name)
    if not codec:
        return packed
    if not 0 <= size <= MAX_SHARD_BYTES:
        raise _damaged(name, f"its index gives it {size:,} bytes")
    try:
        return bytes(pa.Codec(codec).decompress(packed, decompressed_size=size))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, f"the {codec} data are damaged ({one_line(error, 120)})") from error


def _packed_bytes(path: str, name: str) -> bytes:
    blocks: list[bytes] = []
    total = 0
    for piece in io.pieces(path, name):
        total += len(piece)
        if total > MAX_SHARD_BYTES:
            raise SourceTooLargeError(
                f"{name} is above {MAX_SHARD_BYTES:,} bytes (MAX_SHARD_BYTES).",
                remedy="Write smaller shards.",
            )
        blocks.append(piece)
    return b"".join(blocks)


def cells(data: bytes, name: str, sizes: Sequence[int | None], start: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields each row number from `start` on, with the cells of the row.

    `sizes` are the cells' sizes in bytes. None means that the row stores the cell's size, as 32 bits before its cells.
    """
    if len(data) < 8:
        raise _damaged(name, "it has no header")
    (count,) = struct.unpack_from("<I", data)
    if 4 + 4 * (count + 1) > len(data):
        raise _damaged(name, f"{count} rows do not fit in {len(data)} bytes")
    offsets = np.frombuffer(data, "<u4", count + 1, 4).astype(np.int64)
    free = sum(size is None for size in sizes)
    for row in range(start, count):
        at, end = int(offsets[row]), int(offsets[row + 1])
        if not 4 + 4 * (count + 1) <= at <= end <= len(data) or at + 4 * free > end:
            raise _damaged(name, f"row {row} lies outside it")
        stated = iter(struct.unpack_from(f"<{free}I", data, at))
        at += 4 * free
        row_cells = []
        for size in sizes:
            length = next(stated) if size is None else size
            row_cells.append(data[at : at + length])
            at += length
        if at != end:
            raise _damaged(name, f"the cells of row {row} do not fill it")
        yield row, row_cells


def count_of(data: bytes) -> int:
    """Returns the row count in a shard's header."""
    return int.from_bytes(data[:4], "little")


def _damaged(name: str, what: str) -> SourceDamagedError:
    return SourceDamagedError(f"{name}: {what}.", remedy="Fetch the shard again.")
