"""Checksums of the stored token arrays, one per piece of PIECE_BYTES. A piece is checked at its first use.

The object `sums.bin` holds the xxh3-64 of each piece of `tokens.bin`, `starts.bin` and, if it exists, `mask.bin`, one array
after the other. The sealed `meta.json` has the checksum of `sums.bin`, so reading `sums.bin` at opening covers all arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import xxhash

from choline_data.columns.arrow_values import distinct

Ints = npt.NDArray[np.int64]
Sums = npt.NDArray[np.uint64]

PIECE_BYTES = 1 << 17  # about the size of 64 packed rows of 1,024 tokens, so a check reads few extra bytes


def pieces_of(size: int) -> int:
    """Returns the number of pieces of an array of `size` bytes."""
    return -(-size // PIECE_BYTES)


class SummingFile:
    """Writes to a file and computes the checksum of each piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sums: list[int] = []
        self._digest = xxhash.xxh3_64()
        self._held = 0

    def write(self, content: bytes) -> None:
        """Writes bytes to the file, and adds them to the checksum of the current piece."""
        self._file.write(content)
        left = memoryview(content)
        while left:
            step = left[: PIECE_BYTES - self._held]
            self._digest.update(step)
            self._held += len(step)
            left = left[len(step) :]
            if self._held == PIECE_BYTES:
                self._end_piece()

    def _end_piece(self) -> None:
        self._sums.append(self._digest.intdigest())
        self._digest.reset()
        self._held = 0

    def sums(self) -> Sums:
        """Returns the checksums of all pieces. Do not write after this call."""
        if self._held:
            self._end_piece()
        return np.array(self._sums, "<u8")


class Pieces:
    """The pieces of an array (in memory or mapped). Remembers which pieces are checked already."""

    def __init__(self, array: npt.NDArray[Any], sums: Sums, damaged: Callable[[], Exception]) -> None:
        self._bytes = memoryview(array.view(np.uint8).data)
        self._width = array.itemsize
        self._sums = sums
        self._damaged = damaged
        self._checked = np.zeros(len(sums), np.bool_)
        self._left = len(sums)

    def check(self, start: Ints, length: Ints) -> None:
        """Verifies the pieces that contain these ranges of values, except pieces that were verified before."""
        if not self._left:
            return
        some = length > 0
        first = start[some] * self._width // PIECE_BYTES
        last = ((start[some] + length[some]) * self._width - 1) // PIECE_BYTES
        if len(first) and int((last - first).max()) > 1:
            wide = np.flatnonzero(last - first > 1).tolist()
            inner = [np.arange(first[i] + 1, last[i]) for i in wide]
            touched = np.concatenate([first, last, *inner])
        else:
            touched = np.concatenate([first, last])
        new = touched[~self._checked[touched]]
        if len(new):
            self._check(distinct(new))

    def hold(self) -> bool:
        """Verifies the pieces again that were verified before. Returns True if all still match their checksums."""
        return all(self._sum(piece) == int(self._sums[piece]) for piece in np.flatnonzero(self._checked).tolist())

    def _sum(self, piece: int) -> int:
        return xxhash.xxh3_64_intdigest(self._bytes[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES])

    def check_all(self) -> None:
        """Verifies every piece that has not been verified yet."""
        self._check(np.flatnonzero(~self._checked).tolist())

    def _check(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            if self._sum(piece) != int(self._sums[piece]):
                raise self._damaged()
            self._checked[piece] = True
        self._left = int(len(self._checked) - np.count_nonzero(self._checked))
