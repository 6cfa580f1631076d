"""One store file: an Arrow IPC file of blocks with a fixed number of rows, named by its sha256, and its block index.

The index (`.blocks`) has 24 bytes a block: offset, length and xxh3-64 of the encapsulated IPC message. A reader maps the
file, or fetches one block by one ranged read, and never parses the footer. Any Arrow reader can open the file itself.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from choline_data.errors import DamagedStoreError
from choline_data.home import Home

_INDEX = np.dtype([("offset", "<u8"), ("length", "<u8"), ("xxh3", "<u8")])
_MAGIC = b"CHLBLK01"
_HASH_BYTES = 1 << 20


def block_rows_for(row_bytes: float) -> int:
    """Rows a block so that it holds about 256–512 KiB: a power of two, 1 to 4,096."""
    rows = 1
    while rows < 4096 and rows * 2 * row_bytes <= 512 << 10:
        rows *= 2
    return rows


def data_name(sha256: str) -> str:
    """The object that holds the store file of this digest."""
    return f"data/{sha256[:2]}/{sha256}.arrow"


def index_name(sha256: str) -> str:
    """The object that holds its block index."""
    return f"data/{sha256[:2]}/{sha256}.blocks"


@dataclass(frozen=True)
class Written:
    """A finished store file: its digest (its name), rows and bytes."""

    sha256: str
    rows: int
    bytes: int


class _Hasher:
    """Hashes a growing file behind the writer, in a thread of its own: sha256 of it all, xxh3 of each block."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ranges: queue.SimpleQueue[tuple[int, int, bool] | None] = queue.SimpleQueue()
        self.sha256 = hashlib.sha256()
        self.blocks: list[tuple[int, int, int]] = []
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="choline-hash", daemon=True)
        self._thread.start()

    def add(self, start: int, end: int, *, block: bool) -> None:
        self._ranges.put((start, end, block))

    def finish(self) -> None:
        self._ranges.put(None)
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        # One buffer for all reads: fresh memory costs more than hashing it.
        buffer = memoryview(bytearray(_HASH_BYTES))
        try:
            with open(self._path, "rb") as file:
                while (item := self._ranges.get()) is not None:
                    start, end, block = item
                    quick = xxhash.xxh3_64()
                    at = start
                    while at < end:
                        got = os.preadv(file.fileno(), [buffer[: min(_HASH_BYTES, end - at)]], at)
                        piece = buffer[:got]
                        if not got:
                            raise OSError("the staged file is shorter than what was written")
                        self.sha256.update(piece)
                        if block:
                            quick.update(piece)
                        at += got
                    if block:
                        self.blocks.append((start, end - start, quick.intdigest()))
        except BaseException as error:  # noqa: BLE001 - carried to finish(), which raises it in the writer's thread
            self._failed = error


class BlockWriter:
    """Writes record batches as blocks of exactly `block_rows` rows (the last may be shorter) into a home."""

    def __init__(self, home: Home, schema: pa.Schema, block_rows: int, *, compression: str | None = None) -> None:
        self._home = home
        self._schema = schema
        self._block_rows = block_rows
        self._staged = home.staged()
        self._sink = pa.OSFile(self._staged, "wb")
        self._hasher = _Hasher(self._staged)
        options = pa.ipc.IpcWriteOptions(compression=compression)
        self._writer = pa.ipc.new_file(self._sink, schema, options=options)
        self._empty = pa.record_batch([pa.array([], f.type) for f in schema], schema=schema)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._hashed = 0
        self.rows = 0

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return int(self._sink.tell())

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes rows; whole blocks go to the file at once."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows < self._block_rows:
            return
        whole = pa.Table.from_batches(self._pending, self._schema)
        at = 0
        while self._pending_rows - at >= self._block_rows:
            self._block(whole.slice(at, self._block_rows))
            at += self._block_rows
        rest = whole.slice(at)
        self._pending = rest.to_batches()
        self._pending_rows -= at

    def _block(self, table: pa.Table) -> None:
        # A copy with buffers of just its rows: the IPC writer pads a slice with its neighbours' bytes, so that the same
        # rows would make other files, and hold what is not theirs.
        batch = pa.concat_batches([*table.to_batches(), self._empty])
        start = self.bytes
        self._writer.write_batch(batch)
        self._sink.flush()
        end = self.bytes
        if start == 0:  # the file's magic and its schema come with the first batch
            with open(self._staged, "rb") as file:
                start = 16 + int.from_bytes(os.pread(file.fileno(), 4, 12), "little")
        if self._hashed < start:
            self._hasher.add(self._hashed, start, block=False)
        self._hasher.add(start, end, block=True)
        self._hashed = end
        self.rows += batch.num_rows

    def close(self) -> Written | None:
        """Finishes the file and adopts it into the home; None (and no file) where no row was written."""
        if self._pending_rows:
            self._block(pa.Table.from_batches(self._pending, self._schema))
        self._writer.close()
        size = self.bytes
        self._sink.close()
        self._hasher.add(self._hashed, size, block=False)
        self._hasher.finish()
        if not self.rows:
            os.unlink(self._staged)
            return None
        digest = self._hasher.sha256.hexdigest()
        table = np.array(self._hasher.blocks, dtype=_INDEX).tobytes()
        self._home.create(index_name(digest), _MAGIC + table + xxhash.xxh3_64_digest(table))
        self._home.adopt(self._staged, data_name(digest))
        return Written(digest, self.rows, size)

    def abandon(self) -> None:
        """Drops what was written."""
        self._hasher.finish()
        self._sink.close()
        if os.path.exists(self._staged):
            os.unlink(self._staged)


class BlockFile:
    """A store file for reading: blocks by number, checked against their checksum when first touched."""

    def __init__(self, home: Home, sha256: str, schema: pa.Schema, size: int) -> None:
        self._home = home
        self._schema = schema
        self.sha256 = sha256
        raw = home.read(index_name(sha256))
        table, check = raw[len(_MAGIC) : -8], raw[-8:]
        if not raw.startswith(_MAGIC) or len(table) % _INDEX.itemsize or xxhash.xxh3_64_digest(table) != check:
            raise self._damaged("its block index does not have its checksum")
        self._index = np.frombuffer(table, dtype=_INDEX)
        self._checked = np.zeros(len(self._index), dtype=bool)
        self.mapped: pa.Buffer | None = None
        if home.local:
            if home.size(data_name(sha256)) != size:
                raise self._damaged(f"it has {home.size(data_name(sha256))} bytes, not {size}")
            self.mapped = home.map(data_name(sha256))

    def __len__(self) -> int:
        return len(self._index)

    def _damaged(self, how: str) -> DamagedStoreError:
        return DamagedStoreError(
            f"Store file {self.sha256[:12]}…: {how}.", remedy="Run `choline-data verify`, then add the dataset again."
        )

    def span(self, block: int) -> tuple[int, int]:
        """Where block `block` lies: from byte, to byte."""
        offset, length, _ = self._index[block].tolist()
        return offset, offset + length

    def block(self, block: int, fetched: bytes | None = None) -> pa.RecordBatch:
        """Block `block`: a view of the mapped file, or of `fetched`, its bytes; DamagedStoreError if they are wrong."""
        offset, length, checksum = self._index[block].tolist()
        if self.mapped is not None:
            body = self.mapped.slice(offset, length)
        else:
            body = pa.py_buffer(
                fetched
                if fetched is not None
                else self._home.read_range(data_name(self.sha256), offset, offset + length)
            )
        if body.size != length or (not self._checked[block] and xxhash.xxh3_64_intdigest(body) != checksum):
            raise self._damaged(f"block {block} does not have its checksum")
        self._checked[block] = True
        return pa.ipc.read_record_batch(pa.ipc.read_message(body), self._schema)
