"""A keyed bijection of [0, n) for any n, in O(1) memory: a Feistel network over a mixed radix, with cycle walking.

It uses integer arithmetic modulo 2^64 only, so the order is the same on every platform and with every NumPy release.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

ROUNDS = 6
_WORD = (1 << 64) - 1
TABLE_ROWS = 1024  # for n up to this, a table sorted by hash: as good as random, and as fast to compute
_M1, _M2, _M3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNDO_M2, _UNDO_M3 = (np.uint64(pow(int(factor), -1, 1 << 64)) for factor in (_M2, _M3))
_number = struct.Struct("<cQ").pack
_NUMBERS = np.dtype([("kind", "S1"), ("number", "<u8")])  # encodes these values as the same bytes as `_number`
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


def _packed(parts: Sequence[int | str]) -> bytes:
    texts = [part if isinstance(part, int) else part.encode() for part in parts]
    return b"".join(
        _number(b"i", part & _WORD) if isinstance(part, int) else _number(b"s", len(part)) + part for part in texts
    )


def key_of(*parts: int | str) -> int:
    """Returns a 64-bit key: the same for equal parts, unrelated for different parts."""
    return xxhash.xxh3_64_intdigest(_packed(parts))


def keys_of(*parts: int | str, numbers: npt.NDArray[np.integer[Any]]) -> _Words:
    """Returns `key_of(*parts, *row)` for each row of a matrix of numbers."""
    head = _packed(parts)
    tails = np.empty(numbers.shape, _NUMBERS)
    tails["kind"], tails["number"] = b"i", numbers.astype(np.uint64)
    raw, size = tails.tobytes(), numbers.shape[1] * _NUMBERS.itemsize
    digest = xxhash.xxh3_64_intdigest
    return np.array([digest(head + raw[at : at + size]) for at in range(0, len(raw), size)], np.uint64)


def mixed(words: _Words) -> _Words:
    """Scrambles 64-bit words with the finaliser of splitmix64, which is a bijection. The result has no visible pattern."""
    out = words + _M1
    out ^= out >> _S30
    out *= _M2
    out ^= out >> _S27
    out *= _M3
    out ^= out >> _S31
    return out


def unmixed(words: _Words) -> _Words:
    """Returns the words that `mixed` scrambles to these words."""
    out: _Words = words ^ words >> _S31 ^ words >> np.uint64(62)
    out *= _UNDO_M3
    out ^= out >> _S27 ^ out >> np.uint64(54)
    out *= _UNDO_M2
    out ^= out >> _S30 ^ out >> np.uint64(60)
    out -= _M1
    return out


def hashed(n: int, key: int) -> _Words:
    """Returns the hash of each of the numbers 0 … n-1. No two hashes are equal."""
    words = np.arange(n, dtype=np.uint64)
    words ^= np.uint64(key)
    return mixed(words)


def numbers_of(hashes: _Words, key: int) -> Ints:
    """Returns the numbers that have these hashes."""
    numbers: Ints = (unmixed(hashes) ^ np.uint64(key)).astype(np.int64)
    return numbers


def shuffled(n: int, key: int) -> Ints:
    """Returns the numbers 0 … n-1 in an order that depends on `key`, as a table. For small n."""
    return np.argsort(hashed(n, key))


class Permutation:
    """A bijection of [0, n) that depends on `key`. `p(x)` permutes an array of positions; `p.inverse(y)` undoes it."""

    __slots__ = ("_network", "_table", "n")

    def __init__(self, n: int, key: int) -> None:
        _check(n)
        self.n = n
        small = n <= TABLE_ROWS
        self._table = shuffled(n, key) if small else np.empty(0, np.int64)
        self._network = None if small else _Network(n, [key])

    def __call__(self, x: Ints) -> Ints:
        return self._table[x] if self._network is None else self._network.walked(x, None, forward=True)

    def inverse(self, y: Ints) -> Ints:
        """Returns the positions that the permutation maps to `y`."""
        if self._network is None:
            return np.argsort(self._table)[y]
        return self._network.walked(y, None, forward=False)


class Permutations:
    """The permutations of [0, n) with these keys. Permutes with many keys at once.

    `p(which, x)` permutes x[i] with key number which[i]. The results are those of a `Permutation` with that key.
    """

    def __init__(self, n: int, keys: Sequence[int] | _Words) -> None:
        _check(n)
        small = n <= TABLE_ROWS
        numbers = np.arange(n if small else 0, dtype=np.uint64)
        self._hashes = mixed(numbers ^ np.array(keys, np.uint64)[:, None])
        self._tables = np.argsort(self._hashes, axis=1)
        self._network = None if small else _Network(n, keys)

    def __call__(self, which: Ints, x: Ints) -> Ints:
        return self._tables[which, x] if self._network is None else self._network.walked(x, which, forward=True)

    def inverse(self, which: Ints, y: Ints) -> Ints:
        """Returns the positions that the permutations map to `y`."""
        if self._network is None:
            earlier: Ints = np.count_nonzero(self._hashes[which] < self._hashes[which, y, None], axis=1)
            return earlier
        return self._network.walked(y, which, forward=False)


def _check(n: int) -> None:
    if not 1 <= n < 1 << 60:
        raise ValueError(f"a permutation of {n} numbers: need 1 to 2^60 - 1")


class _Network:
    """The Feistel networks of [0, n) with these keys."""

    __slots__ = ("_keys", "_left", "_n", "_right")

    def __init__(self, n: int, keys: Sequence[int] | _Words) -> None:
        left = math.isqrt(n - 1) + 1
        self._n, self._left, self._right = np.uint64(n), np.uint64(left), np.uint64(-(-n // left))
        each = np.array(keys, np.uint64).repeat(ROUNDS)
        turns = np.tile(np.arange(ROUNDS, dtype=np.uint64), len(keys))
        self._keys = keys_of(numbers=np.column_stack((each, turns))).reshape(-1, ROUNDS).T

    def walked(self, x: Ints, which: Ints | None, *, forward: bool) -> Ints:
        """Returns each x through the network of its key, again and again until it is below n. `which` is None for a single key."""
        keys = self._keys if which is None else self._keys[:, which]
        out = self._through(x.astype(np.uint64), keys, forward=forward)
        outside = np.flatnonzero(out >= self._n)
        while len(outside):
            again = self._through(out[outside], keys if which is None else keys[:, outside], forward=forward)
            out[outside] = again
            outside = outside[again >= self._n]
        return out.astype(np.int64)

    def _through(self, x: _Words, keys: _Words, *, forward: bool) -> _Words:
        left = x // self._right
        right = x - left * self._right
        turns = range(ROUNDS) if forward else range(ROUNDS - 1, -1, -1)
        for turn in turns:
            if turn % 2 == 0:
                left = _turned(left, right, keys[turn], self._left, forward=forward)
            else:
                right = _turned(right, left, keys[turn], self._right, forward=forward)
        left *= self._right
        left += right
        return left


def _turned(half: _Words, other: _Words, key: _Words, size: np.uint64, *, forward: bool) -> _Words:
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
