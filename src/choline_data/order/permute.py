"""A shuffle of the numbers 0 … n-1 that depends on a key and works for any n: a Feistel network over a mixed radix, with
cycle walking. It needs no table. It uses integer arithmetic modulo 2^64 only, so the order is the same on every
platform and with every release of NumPy.
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
Words = npt.NDArray[np.uint64]

ROUNDS = 6
_WORD = (1 << 64) - 1
# For n up to this limit, a table sorted by hash is used. It is as good as random, and as fast to compute.
TABLE_ROWS = 1024
_M1, _M2, _M3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNDO_M2, _UNDO_M3 = (np.uint64(pow(int(factor), -1, 1 << 64)) for factor in (_M2, _M3))
_number = struct.Struct("<cQ").pack
# a matrix of this type has the same bytes as `_number` gives for each number
_NUMBERS = np.dtype([("kind", "S1"), ("number", "<u8")])
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


def _join_parts(parts: Sequence[int | str]) -> bytes:
    texts = [part if isinstance(part, int) else part.encode() for part in parts]
    return b"".join(
        _number(b"i", part & _WORD) if isinstance(part, int) else _number(b"s", len(part)) + part for part in texts
    )


def key_of(*parts: int | str) -> int:
    """Returns a 64-bit key: the same for equal parts, unrelated for different parts."""
    return xxhash.xxh3_64_intdigest(_join_parts(parts))


def keys_of(*parts: int | str, numbers: npt.NDArray[np.integer[Any]]) -> Words:
    """Returns `key_of(*parts, *row)` for each row of a matrix of numbers."""
    head = _join_parts(parts)
    tails = np.empty(numbers.shape, _NUMBERS)
    tails["kind"], tails["number"] = b"i", numbers.astype(np.uint64)
    raw, size = tails.tobytes(), numbers.shape[1] * _NUMBERS.itemsize
    digest = xxhash.xxh3_64_intdigest
    return np.array([digest(head + raw[at : at + size]) for at in range(0, len(raw), size)], np.uint64)


def scramble(words: Words) -> Words:
    """Scrambles 64-bit words with the finaliser of splitmix64, which is a bijection. The result has no visible pattern."""
    out = words + _M1
    out ^= out >> _S30
    out *= _M2
    out ^= out >> _S27
    out *= _M3
    out ^= out >> _S31
    return out


def unscramble(words: Words) -> Words:
    """Undoes `scramble`: returns the words that it scrambles to these words."""
    out: Words = words ^ words >> _S31 ^ words >> np.uint64(62)
    out *= _UNDO_M3
    out ^= out >> _S27 ^ out >> np.uint64(54)
    out *= _UNDO_M2
    out ^= out >> _S30 ^ out >> np.uint64(60)
    out -= _M1
    return out


def partial_hashes(keys: Words, out: Words, spare: Words) -> Words:
    """Computes `scramble(number ^ key)` without its last step. Returns a matrix with a row for each key, and a column for
    each of the numbers 0, 1, … .

    `out` and `spare` are matrices of the same shape, and are overwritten. Only the 33 low bits of the results differ
    from those of the complete hash.
    """
    np.bitwise_xor(np.arange(out.shape[1], dtype=np.uint64), keys[:, None], out=out)
    out += _M1
    for step, factor in ((_S30, _M2), (_S27, _M3)):
        np.right_shift(out, step, out=spare)
        out ^= spare
        out *= factor
    return out


def complete_hashes(hashes: Words) -> Words:
    """Applies the last step of `scramble` to the results of `partial_hashes`."""
    return hashes ^ hashes >> _S31


def hashes_of(n: int, key: int) -> Words:
    """Returns the hash of each of the numbers 0 … n-1. No two hashes are equal."""
    words = np.arange(n, dtype=np.uint64)
    words ^= np.uint64(key)
    return scramble(words)


def numbers_of(hashes: Words, keys: Words) -> Ints:
    """Returns the numbers that have these hashes with these keys. Undoes `hashes_of`."""
    numbers: Ints = (unscramble(hashes) ^ keys).astype(np.int64)
    return numbers


def shuffle_table(n: int, key: int) -> Ints:
    """Returns the numbers 0 … n-1 as an array, in an order that depends on `key`. Takes memory for n numbers."""
    return np.argsort(hashes_of(n, key))


class Permutation:
    """A bijection of [0, n) that depends on `key`. `p(x)` permutes an array of positions; `p.inverse(y)` undoes it."""

    __slots__ = ("_network", "_table", "n")

    def __init__(self, n: int, key: int) -> None:
        _check(n)
        self.n = n
        small = n <= TABLE_ROWS
        self._table = shuffle_table(n, key) if small else np.empty(0, np.int64)
        self._network = None if small else _Network(np.array([n]), np.array([key], np.uint64))

    def __call__(self, x: Ints) -> Ints:
        return self._table[x] if self._network is None else self._network.walk(x, None, forward=True)

    def inverse(self, y: Ints) -> Ints:
        """Returns the positions that the permutation maps to `y`."""
        if self._network is None:
            return np.argsort(self._table)[y]
        return self._network.walk(y, None, forward=False)


class Permutations:
    """Shuffles of the numbers 0 … n-1, one for each of several keys.

    `p(which, x)` shuffles x[i] with key number which[i]. The result is that of a `Permutation` with this key. `n` may
    be an array with a number for each key, if all of them are above TABLE_ROWS.
    """

    def __init__(self, n: int | Ints, keys: Sequence[int] | Words) -> None:
        sizes = np.broadcast_to(np.asarray(n, np.int64), len(keys))
        _check(int(sizes.min(initial=1)))
        _check(int(sizes.max(initial=1)))
        small = bool((sizes <= TABLE_ROWS).any())
        if small and (sizes != sizes[0]).any():
            raise ValueError("permutations of different numbers: each must be above TABLE_ROWS")
        self._keys = np.array(keys, np.uint64)
        numbers = np.arange(sizes[0] if small else 0, dtype=np.uint64)
        self._hashes = scramble(numbers ^ self._keys[:, None])
        self._sorted = np.sort(self._hashes, axis=1)
        self._network = None if small else _Network(sizes, self._keys)

    def __call__(self, which: Ints, x: Ints) -> Ints:
        if self._network is None:
            return numbers_of(self._sorted[which, x], self._keys[which])
        return self._network.walk(x, which, forward=True)

    def inverse(self, which: Ints, y: Ints) -> Ints:
        """Returns the positions that the permutations map to `y`."""
        if self._network is None:
            earlier: Ints = np.count_nonzero(self._hashes[which] < self._hashes[which, y, None], axis=1)
            return earlier
        return self._network.walk(y, which, forward=False)


def _check(n: int) -> None:
    if not 1 <= n < 1 << 60:
        raise ValueError(f"a permutation of {n} numbers: need 1 to 2^60 - 1")


class _Network:
    """Feistel networks, one for each key and its n."""

    __slots__ = ("_keys", "_sizes")

    def __init__(self, n: Ints, keys: Words) -> None:
        # Computes the root once for each different size; windows have few different sizes.
        roots = {each: math.isqrt(each - 1) + 1 for each in set(n.tolist())}
        left = np.array([roots[each] for each in n.tolist()], np.int64)
        self._sizes: Words = np.stack((n, left, -(-n // left))).astype(np.uint64)
        each = keys.repeat(ROUNDS)
        turns = np.tile(np.arange(ROUNDS, dtype=np.uint64), len(keys))
        self._keys = keys_of(numbers=np.column_stack((each, turns))).reshape(-1, ROUNDS).T

    def walk(self, x: Ints, which: Ints | None, *, forward: bool) -> Ints:
        """Applies the network of a key to each x again and again, until the result is below n.

        `which` is the number of the key for each x, or None if there is only one key.
        """
        sizes, keys = self._sizes, self._keys
        if which is not None:
            sizes, keys = sizes[:, which], keys[:, which]
        out = _through(x.astype(np.uint64), sizes, keys, forward=forward)
        outside = np.flatnonzero(out >= sizes[0])
        while len(outside):
            some = (sizes, keys) if which is None else (sizes[:, outside], keys[:, outside])
            again = _through(out[outside], *some, forward=forward)
            out[outside] = again
            outside = outside[again >= some[0][0]]
        return out.astype(np.int64)


def _through(x: Words, sizes: Words, keys: Words, *, forward: bool) -> Words:
    _, left_size, right_size = sizes
    left = x // right_size
    right = x - left * right_size
    turns = range(ROUNDS) if forward else range(ROUNDS - 1, -1, -1)
    for turn in turns:
        if turn % 2 == 0:
            left = _rotate(left, right, keys[turn], left_size, forward=forward)
        else:
            right = _rotate(right, left, keys[turn], right_size, forward=forward)
    out: Words = left * right_size + right
    return out


def _rotate(half: Words, other: Words, key: Words, size: Words, *, forward: bool) -> Words:
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
