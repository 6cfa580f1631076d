"""A keyed bijection of [0, n) for any n, in O(1) memory: a Feistel network over a mixed radix, with cycle walking.

It uses integer arithmetic modulo 2^64 only, so the order is the same on every platform and with every NumPy release.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt
import xxhash

Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

ROUNDS = 6
_WORD = (1 << 64) - 1
TABLE_ROWS = 1024  # for n up to this, a table sorted by hash: as good as random, and as fast to compute
_SECOND, _THIRD = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_M1, _M2, _M3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(_SECOND), np.uint64(_THIRD)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


def _packed(raw: bytes) -> bytes:
    return struct.pack("<cQ", b"s", len(raw)) + raw


def key_of(*parts: int | str) -> int:
    """A 64-bit key: the same for equal parts, unrelated for different parts."""
    packed = b"".join(
        struct.pack("<cQ", b"i", part & _WORD) if isinstance(part, int) else _packed(part.encode()) for part in parts
    )
    return xxhash.xxh3_64_intdigest(packed)


def mixed(words: _Words) -> _Words:
    """Scrambles 64-bit words with the finaliser of splitmix64, which is a bijection. The result has no visible pattern."""
    out = words + _M1
    out ^= out >> _S30
    out *= _M2
    out ^= out >> _S27
    out *= _M3
    out ^= out >> _S31
    return out


def hashed(n: int, key: int) -> _Words:
    """The hash of each of the numbers 0 … n-1. No two hashes are equal."""
    words = np.arange(n, dtype=np.uint64)
    words ^= np.uint64(key)
    return mixed(words)


def shuffled(n: int, key: int) -> Ints:
    """The numbers 0 … n-1 in an order that depends on `key`, as a table. For small n."""
    return np.argsort(hashed(n, key), kind="stable")


class Permutation:
    """A bijection of [0, n) that depends on `key`. `p(x)` permutes an array of positions; `p.inverse(y)` undoes it."""

    __slots__ = ("_keys", "_left", "_right", "_table", "_whole_keys", "n")

    def __init__(self, n: int, key: int) -> None:
        if not 1 <= n < 1 << 60:
            raise ValueError(f"a permutation of {n} numbers: need 1 to 2^60 - 1")
        self.n = n
        self._table: Ints | None = shuffled(n, key) if n <= TABLE_ROWS else None
        self._left = math.isqrt(n - 1) + 1
        self._right = -(-n // self._left)
        self._whole_keys = [key_of(key, turn) for turn in range(ROUNDS)]
        self._keys = [*map(np.uint64, self._whole_keys)]

    def __call__(self, x: Ints) -> Ints:
        if self._table is not None:
            return self._table[x]
        return self._walk(x, forward=True)

    def inverse(self, y: Ints) -> Ints:
        """The positions that the permutation maps to `y`."""
        if self._table is not None:
            return np.argsort(self._table, kind="stable")[y]
        return self._walk(y, forward=False)

    def one(self, x: int) -> int:
        """The same as a call, for one position. Much faster than an array with one item."""
        if self._table is not None:
            return int(self._table[x])
        while True:
            x = self._network_of_one(x, range(ROUNDS), 1)
            if x < self.n:
                return x

    def inverse_of_one(self, y: int) -> int:
        """The same as `inverse`, for one position."""
        if self._table is not None:
            return int(np.flatnonzero(self._table == y)[0])
        while True:
            y = self._network_of_one(y, range(ROUNDS - 1, -1, -1), -1)
            if y < self.n:
                return y

    def _network_of_one(self, x: int, turns: range, sign: int) -> int:
        sizes = (self._left, self._right)
        halves = [*divmod(x, self._right)]
        for turn in turns:
            which = turn % 2
            size = sizes[which]
            step = ((halves[1 - which] ^ self._whole_keys[turn]) * _SECOND) & _WORD
            step = (((step ^ step >> 32) * _THIRD & _WORD) >> 32) * size >> 32
            halves[which] = (halves[which] + sign * step) % size
        return halves[0] * self._right + halves[1]

    def _walk(self, x: Ints, *, forward: bool) -> Ints:
        out = self._network(x.astype(np.uint64), forward=forward)
        outside = np.flatnonzero(out >= np.uint64(self.n))
        while len(outside):
            again = self._network(out[outside], forward=forward)
            out[outside] = again
            outside = outside[again >= np.uint64(self.n)]
        return out.astype(np.int64)

    def _network(self, x: _Words, *, forward: bool) -> _Words:
        right_size = np.uint64(self._right)
        left = x // right_size
        right = x - left * right_size
        turns = range(ROUNDS) if forward else range(ROUNDS - 1, -1, -1)
        for turn in turns:
            if turn % 2 == 0:
                left = self._turned(left, right, self._keys[turn], np.uint64(self._left), forward=forward)
            else:
                right = self._turned(right, left, self._keys[turn], right_size, forward=forward)
        left *= right_size
        left += right
        return left

    @staticmethod
    def _turned(half: _Words, other: _Words, key: np.uint64, size: np.uint64, *, forward: bool) -> _Words:
        # Computes (half ± f(other)) mod size. A multiplication, not a division, maps f to [0, size).
        step = other ^ key
        step *= _M2
        step ^= step >> _S32
        step *= _M3
        step >>= _S32
        step *= size
        step >>= _S32
        if forward:
            step += half
            step -= (step >= size) * size
            return step
        out = half + size
        out -= step
        out -= (out >= size) * size
        return out
