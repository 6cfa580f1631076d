"""A store file: an Arrow IPC file of blocks with a fixed number of rows, named by its sha256, and its block index.

The index (`.blocks`) has 24 bytes per block: offset, length and xxh3-64 of the encapsulated IPC message. A reader maps
the file, or fetches a block with one ranged read; it never parses the footer. Any Arrow reader can open the file.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from choline_data.columns.arrow_values import Ints, distinct
from choline_data.columns.ipc import Header
from choline_data.columns.parts import BASE_LIMIT
from choline_data.errors import DamagedStoreError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.places.mapped import MappedFile, steady
from choline_data.process.fault_points import reached
from choline_data.process.pages import PAGES
from choline_data.store.messages import Messages, Piece, cut

_INDEX = np.dtype([("offset", "<u8"), ("length", "<u8"), ("xxh3", "<u8")])
_MAGIC, _OLD_MAGIC = b"CHLBLK02", b"CHLBLK01"  # in the old format, the checksum does not cover the object's name
_IOV_MAX = 1024
WAITING_BYTES = 32 << 20  # limit in bytes for blocks that are encoded but not written yet


def block_rows_for(row_bytes: float) -> int:
    """Returns the number of rows per block, so that a block has about 256–512 KiB: a power of two, 1 to 4,096."""
    rows = 1
    while rows < 4096 and rows * 2 * row_bytes <= 512 << 10:
        rows *= 2
    return rows


def data_name(sha256: str) -> str:
    """Returns the name of the object that holds the store file with this digest."""
    return f"data/{sha256[:2]}/{sha256}.arrow"


def index_name(sha256: str) -> str:
    """Returns the name of the object that holds the block index of the store file with this digest."""
    return f"data/{sha256[:2]}/{sha256}.blocks"


@dataclass(frozen=True)
class WrittenFile:
    """A complete store file: its digest, which is its name, and its numbers of rows and bytes."""

    sha256: str
    rows: int
    bytes: int


class _Output:
    """Writes and hashes a temporary file in its own thread: sha256 of the whole file, xxh3 of each block."""

    def __init__(self, home: Home, path: str) -> None:
        self._home = home
        self._path = path
        with home.writing(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._parts: queue.SimpleQueue[tuple[list[Any], int, bool] | None] = queue.SimpleQueue()
        self._at_end: Callable[[], None] | None = None
        self._room = threading.Condition()
        self._waiting = 0
        self._failed: BaseException | None = None
        self.sha256 = hashlib.sha256()
        self.checksums: list[int] = []
        self._thread = threading.Thread(target=self._run, name="choline-write", daemon=True)
        self._thread.start()

    def add(self, parts: list[Any], size: int, *, block: bool) -> None:
        """Appends bytes to the file. Blocks while WAITING_BYTES or more are queued; raises if the thread has failed."""
        with self._room:
            self._room.wait_for(lambda: self._waiting < WAITING_BYTES or self._failed is not None)
            self._waiting += size
        if self._failed is not None:
            raise self._failed
        self._parts.put((parts, size, block))

    def end(self, then: Callable[[], None]) -> None:
        """Requests the end of the file without waiting: when everything is written and hashed, the thread calls `then`
        and closes the file.
        """
        self._at_end = then
        self._parts.put(None)

    def wait(self) -> None:
        """Waits for the thread to end. Raises the error of the thread, if there was one."""
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Waits for the thread to end and to close the file. Never raises an error of the thread."""
        self._parts.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._parts.get()) is not None:
                parts, size, block = item
                with self._home.writing(self._path):
                    _write(self._fd, parts)
                quick = xxhash.xxh3_64()
                for part in parts:
                    self.sha256.update(part)
                    if block:
                        quick.update(part)
                if block:
                    self.checksums.append(quick.intdigest())
                with self._room:
                    self._waiting -= size
                    self._room.notify()
            if self._at_end is not None:
                self._at_end()
        except BaseException as error:  # noqa: BLE001 - carried to the writer's thread, which raises it
            with self._room:
                self._failed = error
                self._room.notify()
        finally:
            os.close(self._fd)


def _write(fd: int, parts: list[Any]) -> None:
    for at in range(0, len(parts), _IOV_MAX):
        left = parts[at : at + _IOV_MAX]
        wrote = os.writev(fd, left)
        while left:  # writev may write only a part; the loop writes the rest
            size = memoryview(left[0]).nbytes
            if wrote >= size:
                wrote -= size
                left = left[1:]
                continue
            left = [memoryview(left[0]).cast("B")[wrote:], *left[1:]]
            wrote = os.writev(fd, left)


class BlockWriter:
    """Writes record batches into a home as blocks of exactly `block_rows` rows. The last block may be shorter.

    The bytes of the file depend only on the rows, not on how they are divided into batches. A batch must not change
    after `write`.
    """

    def __init__(self, home: Home, schema: pa.Schema, block_rows: int, *, compression: str | None = None) -> None:
        self._home = home
        self._schema = schema
        self._block_rows = block_rows
        self._messages = Messages(schema, compression)
        self._staged = home.new_staging_path()
        self._output = _Output(home, self._staged)
        self._blocks: list[tuple[int, int, int]] = []  # for each block: offset, bytes of the header, bytes of the body
        self._pending: list[Piece] = []
        self._pending_rows = 0
        self._ended = False
        self._digest = ""
        self.bytes = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows. Full blocks are encoded at once and queued for the file."""
        if not batch.schema.equals(self._schema):
            raise ValueError(f"the rows have another schema than the file: {batch.schema}")
        self._pending.append((batch, 0, batch.num_rows))
        self._pending_rows += batch.num_rows
        if self._pending_rows < self._block_rows:
            return
        *whole, last = cut(self._pending, self._block_rows)
        for pieces in whole:
            self._block(pieces)
        self._pending_rows = sum(end - start for _, start, end in last)
        self._pending = last
        if self._pending_rows == self._block_rows:
            self._block(last)
            self._pending, self._pending_rows = [], 0

    def _block(self, pieces: list[Piece]) -> None:
        if not self._blocks:
            self._add([self._messages.preamble], len(self._messages.preamble))
            reached("store-file.begun")
        message = self._messages.encode(pieces)
        self._blocks.append((self.bytes, len(message.header), message.body_size))
        self._add(message.parts, message.size, block=True)
        self.rows += sum(end - start for _, start, end in pieces)

    def _add(self, parts: list[Any], size: int, *, block: bool = False) -> None:
        self._output.add(parts, size, block=block)
        self.bytes += size

    def end(self) -> None:
        """Requests the end of the file without waiting: a thread completes it and moves it into the home. If there are
        no rows, no file is made.
        """
        if self._ended:
            return
        if self._pending_rows:
            self._block(self._pending)
            self._pending, self._pending_rows = [], 0
        self._ended = True
        if not self.rows:
            self.abandon()
            return
        ending = self._messages.ending(self._blocks)
        self._add([ending], len(ending))
        self._output.end(self._adopt)

    def close(self) -> WrittenFile | None:
        """Waits until the file is in the home and synced. Without rows, returns None and leaves no file."""
        self.end()
        if not self.rows:
            return None
        self._output.wait()
        return WrittenFile(self._digest, self.rows, self.bytes)

    def _adopt(self) -> None:
        self._digest = self._output.sha256.hexdigest()
        table = np.zeros(len(self._blocks), _INDEX)
        table["offset"] = [offset for offset, _, _ in self._blocks]
        table["length"] = [header + body for _, header, body in self._blocks]
        table["xxh3"] = np.array(self._output.checksums, np.uint64)
        self._home.put(index_name(self._digest), encode_index(self._digest, table))
        reached("store-file.indexed")
        self._home.adopt(self._staged, data_name(self._digest))

    def abandon(self) -> None:
        """Waits for pending writes and deletes the staged file."""
        self._output.stop()
        if os.path.exists(self._staged):
            os.unlink(self._staged)


def encode_index(sha256: str, table: npt.NDArray[Any]) -> bytes:
    """Returns the bytes of the object that holds a block index. `table` is the index, and `sha256` the digest of its
    store file.
    """
    content = table.tobytes()
    return _MAGIC + content + _index_check(sha256, content)


def index_of(home: Home, sha256: str) -> bytes:
    """Rebuilds the block index of an undamaged store file from its footer and its bytes. Returns the bytes of the
    index.
    """
    if not home.local:
        return _index_made(sha256, memoryview(home.read(data_name(sha256))))
    mapped = home.map(data_name(sha256), partial(_damaged, sha256), lambda _: "it was changed while it was read")
    return steady(lambda: _index_made(sha256, memoryview(mapped.buffer)), (mapped,))


def _index_made(sha256: str, file: memoryview) -> bytes:
    places = Messages.places(file)
    table = np.zeros(len(places), _INDEX)
    table["offset"] = places["offset"]
    table["length"] = places["header"].astype(np.int64) + places["body"]
    spans = zip(table["offset"].tolist(), table["length"].tolist(), strict=True)
    table["xxh3"] = np.array([xxhash.xxh3_64_intdigest(file[at : at + size]) for at, size in spans], np.uint64)
    return encode_index(sha256, table)


def _index_check(sha256: str, content: bytes) -> bytes:
    digest = xxhash.xxh3_64(sha256.encode())
    digest.update(content)
    return digest.digest()


def _damaged(sha256: str, how: str) -> DamagedStoreError:
    return DamagedStoreError(f"Store file {sha256[:12]}…: {how}.", remedy="Run `choline-data repair`.")


def _recheck(index: npt.NDArray[Any], checked: npt.NDArray[np.bool_], memory: pa.Buffer) -> str:
    """Verifies again the blocks in the mask `checked`. Returns a description of the first fault, or "" if there is
    none.
    """
    for block in np.flatnonzero(checked).tolist():
        offset, length, checksum = index[block].tolist()
        if xxhash.xxh3_64_intdigest(memory.slice(offset, length)) != checksum:
            return f"block {block} was changed while it was in use"
    return ""


class BlockFile:
    """Reads blocks of a store file by number and checks their checksums.

    A block that is copied is checked each time. A block of the mapped file is checked only when it is first used, so
    callers must read it within `steady` (`places/mapped.py`).
    """

    def __init__(self, home: Home, sha256: str, schema: pa.Schema, size: int) -> None:
        self._home = home
        self._schema = schema
        self.sha256 = sha256
        raw = home.read(index_name(sha256))
        magic, table, check = raw[: len(_MAGIC)], raw[len(_MAGIC) : -8], raw[-8:]
        sound = len(raw) >= len(_MAGIC) + 8 and magic in (_MAGIC, _OLD_MAGIC) and not len(table) % _INDEX.itemsize
        if not sound or _index_check(sha256 if magic == _MAGIC else "", table) != check:
            raise self._damaged("its block index does not have its checksum")
        self._index = np.frombuffer(table, dtype=_INDEX)
        self._checked = np.zeros(len(self._index), dtype=bool)
        self.mapped: MappedFile | None = None
        if home.local:
            if home.size(data_name(sha256)) != size:
                raise self._damaged(f"it has {home.size(data_name(sha256))} bytes, not {size}")
            recheck = partial(_recheck, self._index, self._checked)
            self.mapped = home.map(data_name(sha256), partial(_damaged, sha256), recheck)

    def __len__(self) -> int:
        return len(self._index)

    def check_rows(self, rows: int, block_rows: int) -> None:
        """Raises DamagedStoreError if a file of `rows` rows cannot have this number of blocks."""
        if not rows <= len(self._index) * block_rows < rows + block_rows:
            raise self._damaged(f"its block index has {len(self._index)} blocks, which does not fit {rows} rows")

    def _damaged(self, how: str) -> DamagedStoreError:
        return _damaged(self.sha256, how)

    def block(self, block: int) -> pa.RecordBatch:
        """Returns a copy of block `block`. Raises DamagedStoreError if its bytes are wrong."""
        offset, length, checksum = self._index[block].tolist()
        try:
            fetched = self._home.read_range(data_name(self.sha256), offset, offset + length)
        except SourceNotFoundError:
            if self.mapped is None:
                raise
            view = self.mapped.buffer.slice(offset, length)  # a mapping stays valid after the file is removed
            fetched = steady(view.to_pybytes, (self.mapped,))
        if len(fetched) != length or xxhash.xxh3_64_intdigest(fetched) != checksum:
            raise self._damaged(f"block {block} does not have its checksum")
        return self._batch(pa.py_buffer(fetched))

    def view(self, block: int) -> pa.RecordBatch:
        """Returns block `block` as a view of the mapped file, or as a copy if the file is not mapped."""
        return self.block(block) if self.mapped is None else self._batch(self._checked_view(self.mapped, block))

    def _batch(self, message: pa.Buffer) -> pa.RecordBatch:
        return pa.ipc.read_record_batch(pa.ipc.read_message(message), self._schema)

    def _checked_view(self, mapped: MappedFile, block: int) -> pa.Buffer:
        offset, length, checksum = self._index[block].tolist()
        body = mapped.buffer.slice(offset, length)
        if not self._checked[block] and xxhash.xxh3_64_intdigest(body) != checksum:
            raise mapped.condemn(f"block {block} does not have its checksum")
        self._checked[block] = True
        PAGES.look()
        return body

    def numbers(self, blocks: Ints, header: Header) -> tuple[Ints, Ints] | None:
        """Returns, for each of these blocks of the mapped file, the null count of each node and the file offset of each
        buffer.

        Returns None if the headers of these blocks can't be read in this way: the file is not mapped or is too large
        for the offset in a view, or a block is compressed or was not written by this library.
        """
        if self.mapped is None or self.mapped.size > BASE_LIMIT:
            return None
        offsets, lengths = (self._index[name][blocks].astype(np.int64) for name in ("offset", "length"))
        self.mapped.fetch(zip(offsets.tolist(), lengths.tolist(), strict=True))
        for block in distinct(blocks[~self._checked[blocks]]):
            self._checked_view(self.mapped, block)
        if (lengths < header.size).any() or (offsets % 8).any():
            return None
        # every possible place of a header in the file; only those at `offsets` are read
        possible: npt.NDArray[Any] = np.ndarray(
            max(self.mapped.size - header.size + 1, 0), f"V{header.size}", self.mapped.buffer, strides=(1,)
        )
        headers = header.read(possible[offsets].view(np.uint8).reshape(-1, header.size))
        if headers is None:
            return None
        nodes, spans = headers
        room = (lengths - header.size)[:, None]
        if (spans < 0).any() or (spans.sum(axis=2) > room).any() or (spans[:, :, 0] % 8).any():
            raise self._damaged("a block refers to a buffer outside of itself")
        return nodes[:, :, 1], spans[:, :, 0] + (offsets + header.size)[:, None]
