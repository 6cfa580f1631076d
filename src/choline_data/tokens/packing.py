"""Computes which stored tokens make row k: by arithmetic for `concat`, with an index for `bfd`.

A row has seq_len + 1 tokens. The last token is only a target, so formats with shifted labels need no other row.
`concat` joins all documents; row k is tokens k * seq_len to (k + 1) * seq_len, both included. Every token except the
very first is a target exactly once. The last row is padded. `bfd` (best fit, decreasing) puts whole documents together
into a row. A longer document is cut into full rows and a remainder. Rows are padded. The index is computed once and
stored.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from choline_data.errors import DamagedStoreError, InvalidOptionError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.process.work import allow, pause
from choline_data.store import derived
from choline_data.store import sealed as sealing
from choline_data.tokens.token_store import TokenArray

Ints = npt.NDArray[np.int64]
_PIECES_A_TURN = 1024
PACKINGS = ("concat", "bfd")


@dataclass(frozen=True)
class PackedRows:
    """Packed rows. Each row consists of pieces, and a piece is (first token in the flat array, number of tokens,
    document).
    """

    offsets: Ints  # the pieces of row k have the numbers offsets[k] … offsets[k+1]-1
    start: Ints
    length: Ints
    document: Ints


class Documents:
    """The documents that a source serves, in order, as ranges of the flat array of tokens. If all documents are served,
    the ranges are contiguous.
    """

    def __init__(self, array: TokenArray, chosen: Ints | None = None) -> None:
        self.array = array
        self.chosen = chosen
        if chosen is None:
            self.first = array.starts[:-1]
            self.virtual = array.starts
        else:
            self.first = array.starts[chosen]
            lengths = array.starts[chosen + 1] - self.first
            self.virtual = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    @property
    def nbytes(self) -> int:
        """The size of the index arrays in memory in bytes, without the array of tokens."""
        return 0 if self.chosen is None else self.chosen.nbytes + self.first.nbytes + self.virtual.nbytes

    @property
    def tokens(self) -> int:
        """Total number of tokens in all documents."""
        return int(self.virtual[-1])

    def number(self, index: Ints) -> Ints:
        """Converts indices of served documents to row numbers of the revision."""
        return index if self.chosen is None else self.chosen[index]


def concat_rows(documents: Documents, seq_len: int) -> int:
    """Returns the number of rows that `concat` makes."""
    return max(-(-(documents.tokens - 1) // seq_len), 0)


def concat(documents: Documents, rows: Ints, seq_len: int) -> PackedRows:
    """Returns the packed rows with these numbers, for packing `concat`."""
    low = rows * seq_len
    high = np.minimum(low + seq_len + 1, documents.tokens)
    first = np.searchsorted(documents.virtual, low, side="right") - 1
    last = np.searchsorted(documents.virtual, high, side="left")
    counts = last - first
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    row = np.repeat(np.arange(len(rows)), counts)
    index = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], counts) + first[row]
    begin = np.maximum(documents.virtual[index], low[row])
    end = np.minimum(documents.virtual[index + 1], high[row])
    start = documents.first[index] + begin - documents.virtual[index]
    return PackedRows(offsets, start, end - begin, documents.number(index))


@dataclass(frozen=True)
class BestFit:
    """The index of all rows that packing `bfd` makes."""

    rows: PackedRows
    seq_len: int

    def __len__(self) -> int:
        return len(self.rows.offsets) - 1

    @property
    def nbytes(self) -> int:
        """The size in memory in bytes."""
        rows = self.rows
        return rows.offsets.nbytes + rows.start.nbytes + rows.length.nbytes + rows.document.nbytes

    @property
    def padding(self) -> float:
        """The fraction of all token places that are padding."""
        return 1 - float(self.rows.length.sum()) / max(len(self) * (self.seq_len + 1), 1)

    def pick(self, rows: Ints) -> PackedRows:
        """Returns the packed rows with these numbers."""
        counts = self.rows.offsets[rows + 1] - self.rows.offsets[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        at = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1] - self.rows.offsets[rows], counts)
        return PackedRows(offsets, self.rows.start[at], self.rows.length[at], self.rows.document[at])


def best_fit(documents: Documents, seq_len: int) -> BestFit:
    """Packs the documents: longest first, each into the fullest row that still has room for it."""
    room = seq_len + 1
    lengths = documents.virtual[1:] - documents.virtual[:-1]
    whole, rest = lengths // room, lengths % room
    allow(
        "packed_pieces",
        int(whole.sum() + np.count_nonzero(rest)),
        f"An index of packing bfd for seq_len {seq_len} has too many pieces",
        "Choose packing concat, or read it once without a server, from the server's home.",
    )
    # A piece that fills a row is a row by itself. Only the remainders of documents have to be fitted into rows.
    filling = np.repeat(np.arange(len(lengths)), whole)
    begins = (np.arange(len(filling)) - np.repeat(np.cumsum(whole) - whole, whole)) * room
    left = np.flatnonzero(rest)
    left = left[np.argsort(-rest[left], kind="stable")]
    bins = _fit(rest[left].tolist(), room)
    by_bin = np.argsort(bins, kind="stable")
    counts = np.concatenate([np.ones(len(filling), np.int64), np.bincount(bins).astype(np.int64)])
    left = left[by_bin]
    which = np.concatenate([filling, left])
    start = documents.first[which] + np.concatenate([begins, whole[left] * room])
    length = np.concatenate([np.full(len(filling), room, np.int64), rest[left]])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return BestFit(PackedRows(offsets, start, length, documents.number(which)), seq_len)


def _fit(sizes: list[int], room: int) -> Ints:
    """Assigns pieces to rows of `room` tokens. Returns the row number of each piece, from 0.

    `sizes` are in descending order. The loop can't be vectorised, because each choice depends on all choices before it.
    """
    rows: list[int] = []
    by_space: dict[int, list[int]] = {}  # for each number of free places, the rows that have this number of free places
    spaces: list[int] = []  # the keys of `by_space`, in ascending order
    count = 0
    for turn, size in enumerate(sizes):
        if turn % _PIECES_A_TURN == 0:
            pause()
        at = bisect_left(spaces, size)
        if at < len(spaces):
            space = spaces[at]
            held = by_space[space]
            row = held.pop()
            if not held:
                del by_space[space], spaces[at]
        else:
            space, row = room, count
            count += 1
        rows.append(row)
        if space > size:
            held = by_space.setdefault(space - size, [])
            if not held:
                insort(spaces, space - size)
            held.append(row)
    return np.array(rows, np.int64)


def stored_best_fit(home: Home, documents: Documents, seq_len: int, part: str) -> BestFit:
    """Returns the index of `bfd` for a part of the tokens, read from the home. If it is missing, computes it and stores
    it. `part` is the split, config and filter.
    """
    key = hashlib.sha256(f"{part}/{seq_len}".encode()).hexdigest()[:32]
    name = f"{documents.array.key.folder}/bfd-{key}"
    if home.exists(f"{name}.json"):
        derived.of(home).mark(home, f"{name}.json")
        try:
            return read_best_fit(home, name, documents.array, seq_len)
        except DamagedStoreError:
            if home.exists(f"{name}.json") and home.exists(f"{name}.bin"):
                raise
            # the index has just been evicted: compute it again
    index = best_fit(documents, seq_len)
    table = np.concatenate([index.rows.offsets, index.rows.start, index.rows.length, index.rows.document])
    raw = table.astype("<i8").tobytes()

    def write() -> None:
        home.put(f"{name}.bin", raw)
        body = {"rows": len(index), "pieces": len(index.rows.start), "table": sealing.checksum(f"{name}.bin", raw)}
        home.put(f"{name}.json", sealing.seal_json(f"{name}.json", body))

    derived.kept(home, len(raw), write)
    return index


def read_best_fit(home: Home, name: str, array: TokenArray, seq_len: int) -> BestFit:
    """Returns the index of `bfd` stored under this name. Raises DamagedStoreError if it does not match its checksum."""
    try:
        meta = sealing.unseal_json(f"{name}.json", home.read(f"{name}.json"), before=b'{"rows":')
        raw = home.read(f"{name}.bin")
        sound = "table" not in meta or sealing.checksum(f"{name}.bin", raw) == meta["table"]
        counts = [meta["rows"] + 1, meta["pieces"], meta["pieces"], meta["pieces"]]
        offsets, start, length, document = np.split(np.frombuffer(raw, "<i8"), np.cumsum(counts)[:-1])
        sound = sound and [len(offsets), len(start), len(length), len(document)] == counts
        if sound and "table" not in meta:
            sound = _possible(offsets, start, length, document, array)
    except (sealing.BrokenSealError, SourceNotFoundError, KeyError, TypeError, ValueError) as error:
        raise _damaged(name) from error
    if not sound:
        raise _damaged(name)
    return BestFit(PackedRows(offsets, start, length, document), seq_len)


def _possible(offsets: Ints, start: Ints, length: Ints, document: Ints, array: TokenArray) -> bool:
    """Returns whether an index without a checksum can be right for these tokens."""
    if int(offsets[0]) or int(offsets[-1]) != len(start) or (offsets[1:] < offsets[:-1]).any():
        return False
    if not len(start):
        return True
    inside = start.min() >= 0 and length.min() > 0 and int((start + length).max()) <= array.tokens
    return bool(inside and document.min() >= 0 and document.max() < array.documents)


def _damaged(name: str) -> DamagedStoreError:
    return DamagedStoreError(f"The packing index {name}.bin is damaged.", remedy="Run `choline-data repair`.")


def check_packing(packing: str, seq_len: int) -> None:
    """Raises InvalidOptionError if the packing is unknown or seq_len is out of range."""
    if packing not in PACKINGS:
        raise InvalidOptionError(f"No packing {packing!r}.", remedy=f"There are: {', '.join(PACKINGS)}.")
    if not 1 <= seq_len <= 1 << 20:
        raise InvalidOptionError(f"seq_len {seq_len} is out of range.", remedy="1 to 1,048,576.")
